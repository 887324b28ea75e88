//! Totals that stay exact whatever happens to the table of sources.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    content::{BEGINNINGS, Begins},
    oracle::{REACHES, Reach},
    outcome::{ANSWERS, Answer, EGRESS_EXITS, EXITS, EgressExit, Exit, PROBE_CLASSES, ProbeClass},
    sample::{LEFT_OUTS, LeftOut},
};

/// One CPU's totals since the program was loaded; the agent adds the CPUs up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Tally {
    /// Packets by [`Exit`]. Their sum is the number of packets that the program saw.
    pub exits: [u64; EXITS],
    /// Probes by [`ProbeClass`], also those whose source found no room.
    pub probes: [u64; PROBE_CLASSES],
    /// Sources put into the table.
    pub inserted: u64,
    /// Times that the agent was told of a source at once.
    pub trips: u64,
    /// Times that there was no room to tell it; the next poll sees to it.
    pub trips_lost: u64,
    /// Packets that would have been dropped, were bans enforced; each left by its own exit.
    pub would_drop: u64,
    /// Packets of a source that is banned and allowed: they passed.
    pub spared: u64,
    /// Sources that were held, see [`crate::hold`], or would have been in a dry run.
    pub holds: u64,
    /// Sources that were not held because as many were in that epoch as may be.
    pub holds_refused: u64,
    /// Segments of which the sockets, when they were asked, said that their connection's handshake was completed: a few for
    /// each connection.
    pub completions: u64,
    /// The same probes by what they met, see [`Reach`].
    pub reached: [u64; REACHES],
    /// Answers that left, by [`Answer`].
    pub answers: [u64; ANSWERS],
    /// Packets that left, by [`EgressExit`]. Their sum is the number of packets that the egress program saw.
    pub egress: [u64; EGRESS_EXITS],
    /// Payloads that were sampled, by [`Begins`].
    pub sampled: [u64; BEGINNINGS],
    /// Payloads that were not, though they begin like something, by [`LeftOut`].
    pub left_out: [u64; LEFT_OUTS],
}

impl Tally {
    /// Nothing counted.
    pub const ZERO: Self = Self {
        exits: [0; EXITS],
        probes: [0; PROBE_CLASSES],
        inserted: 0,
        trips: 0,
        trips_lost: 0,
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

    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            exits,
            probes,
            inserted,
            trips,
            trips_lost,
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
        self.trips = self.trips.wrapping_add(*trips);
        self.trips_lost = self.trips_lost.wrapping_add(*trips_lost);
        self.would_drop = self.would_drop.wrapping_add(*would_drop);
        self.spared = self.spared.wrapping_add(*spared);
        self.holds = self.holds.wrapping_add(*holds);
        self.holds_refused = self.holds_refused.wrapping_add(*holds_refused);
        self.completions = self.completions.wrapping_add(*completions);
    }

    /// What was counted since `earlier`.
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
        delta.trips = delta.trips.wrapping_sub(earlier.trips);
        delta.trips_lost = delta.trips_lost.wrapping_sub(earlier.trips_lost);
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

    /// Probes that met this.
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

    /// Samples of what begins so.
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
