//! Totals that stay exact, whatever happens to the table of sources.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    content::{BEGINNINGS, Begins},
    oracle::{REACHES, Reach},
    outcome::{ANSWERS, Answer, EGRESS_EXITS, EXITS, EgressExit, Exit, PROBE_CLASSES, ProbeClass},
    sample::{LEFT_OUTS, LeftOut},
};

/// The totals of one CPU since the program was loaded. The agent adds up the CPUs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Tally {
    /// Packets by [`Exit`]. Their sum is the number of packets that the program saw.
    pub exits: [u64; EXITS],
    /// Probes by [`ProbeClass`], including those whose source found no room in the table.
    pub probes: [u64; PROBE_CLASSES],
    /// Sources that entered the table.
    pub inserted: u64,
    /// Wake-ups that the program sent to the agent.
    pub wakeups: u64,
    /// Wake-ups for which the ring buffer had no room. The next poll finds what they were about.
    pub wakeups_lost: u64,
    /// Packets that would have been dropped if bans were enforced. Each left by its own exit.
    pub would_drop: u64,
    /// Packets of a source that is both banned and allowed. They passed.
    pub spared: u64,
    /// Sources that were held, see [`crate::hold`], or would have been held in a dry run.
    pub holds: u64,
    /// Sources that were not held because that epoch already had as many holds as it may have.
    pub holds_refused: u64,
    /// Segments for which the program asked the sockets and learned that the handshake of their connection was
    /// completed: a few for each connection.
    pub completions: u64,
    /// The same probes by [`Reach`].
    pub reached: [u64; REACHES],
    /// Outgoing answers, by [`Answer`].
    pub answers: [u64; ANSWERS],
    /// Outgoing packets, by [`EgressExit`]. Their sum is the number of packets that the egress program saw.
    pub egress: [u64; EGRESS_EXITS],
    /// Payloads that were sampled, by [`Begins`].
    pub sampled: [u64; BEGINNINGS],
    /// Payloads that were not sampled, though they begin like something that is, by [`LeftOut`].
    pub left_out: [u64; LEFT_OUTS],
}

impl Tally {
    /// Nothing was counted.
    pub const ZERO: Self = Self {
        exits: [0; EXITS],
        probes: [0; PROBE_CLASSES],
        inserted: 0,
        wakeups: 0,
        wakeups_lost: 0,
        would_drop: 0,
        spared: 0,
        holds: 0,
        holds_refused: 0,
        completions: 0,
        reached: [0; REACHES],
        answers: [0; ANSWERS],
        egress: [0; EGRESS_EXITS],
        sampled: [0; BEGINNINGS],
        left_out: [0; LEFT_OUTS],
    };

    /// Adds the totals of another CPU.
    pub fn add(&mut self, other: &Self) {
        let Self {
            exits,
            probes,
            inserted,
            wakeups,
            wakeups_lost,
            would_drop,
            spared,
            holds,
            holds_refused,
            completions,
            reached,
            answers,
            egress,
            sampled,
            left_out,
        } = other;
        add(&mut self.exits, exits);
        add(&mut self.probes, probes);
        add(&mut self.reached, reached);
        add(&mut self.answers, answers);
        add(&mut self.egress, egress);
        add(&mut self.sampled, sampled);
        add(&mut self.left_out, left_out);
        self.inserted = self.inserted.wrapping_add(*inserted);
        self.wakeups = self.wakeups.wrapping_add(*wakeups);
        self.wakeups_lost = self.wakeups_lost.wrapping_add(*wakeups_lost);
        self.would_drop = self.would_drop.wrapping_add(*would_drop);
        self.spared = self.spared.wrapping_add(*spared);
        self.holds = self.holds.wrapping_add(*holds);
        self.holds_refused = self.holds_refused.wrapping_add(*holds_refused);
        self.completions = self.completions.wrapping_add(*completions);
    }

    /// Counts since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = *self;
        subtract(&mut delta.exits, &earlier.exits);
        subtract(&mut delta.probes, &earlier.probes);
        subtract(&mut delta.reached, &earlier.reached);
        subtract(&mut delta.answers, &earlier.answers);
        subtract(&mut delta.egress, &earlier.egress);
        subtract(&mut delta.sampled, &earlier.sampled);
        subtract(&mut delta.left_out, &earlier.left_out);
        delta.inserted = delta.inserted.wrapping_sub(earlier.inserted);
        delta.wakeups = delta.wakeups.wrapping_sub(earlier.wakeups);
        delta.wakeups_lost = delta.wakeups_lost.wrapping_sub(earlier.wakeups_lost);
        delta.would_drop = delta.would_drop.wrapping_sub(earlier.would_drop);
        delta.spared = delta.spared.wrapping_sub(earlier.spared);
        delta.holds = delta.holds.wrapping_sub(earlier.holds);
        delta.holds_refused = delta.holds_refused.wrapping_sub(earlier.holds_refused);
        delta.completions = delta.completions.wrapping_sub(earlier.completions);
        delta
    }

    /// Packets that left by `exit`.
    pub fn exit(&self, exit: Exit) -> u64 {
        self.exits[exit.index()]
    }

    /// Probes of `class`.
    pub fn probe(&self, class: ProbeClass) -> u64 {
        self.probes[class.index()]
    }

    /// Probes with this reach.
    pub fn reach(&self, reach: Reach) -> u64 {
        self.reached[reach as usize]
    }

    /// Answers of this kind.
    pub fn answer(&self, answer: Answer) -> u64 {
        self.answers[answer as usize]
    }

    /// Packets that left by `exit` of the egress program.
    pub fn egress(&self, exit: EgressExit) -> u64 {
        self.egress[exit.index()]
    }

    /// Samples that begin like this.
    pub fn sampled(&self, begins: Begins) -> u64 {
        self.sampled[begins.index()]
    }

    /// Payloads that were left out of the samples for this reason.
    pub fn left_out(&self, why: LeftOut) -> u64 {
        self.left_out[why.index()]
    }

    /// All packets.
    pub fn packets(&self) -> u64 {
        self.exits.iter().sum()
    }
}

fn add<const N: usize>(sums: &mut [u64; N], parts: &[u64; N]) {
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = sum.wrapping_add(*part);
    }
}

fn subtract<const N: usize>(news: &mut [u64; N], olds: &[u64; N]) {
    for (new, old) in news.iter_mut().zip(olds) {
        *new = new.wrapping_sub(*old);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::ZERO
    }
}
