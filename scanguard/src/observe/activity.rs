//! The activity of a source in some time: the unit of deltas, histories and windows.

use scanguard_common::{
    account::{COUNT_SLOTS, Distinct, Sample, SourceState},
    oracle::{REACHES, Reach},
    outcome::{ANSWERS, Answer, PortRange, ProbeClass},
    sketch::{ASKED_WORDS, EXACT_PORTS},
    tally::Tally,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

use super::{
    distinct::{Estimate, estimate, linear_count},
    packed::Packed,
    sampled::Sampled,
};

/// Numbers of probes by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(transparent)]
pub struct Counts([u32; COUNT_SLOTS]);

impl Counts {
    /// No probes.
    pub const ZERO: Self = Self([0; COUNT_SLOTS]);

    /// Adds other numbers. It stays at the largest number rather than wrap.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.0, &other.0);
    }

    /// The sum over all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Probes of one class.
    pub fn of(&self, class: ProbeClass) -> u64 {
        u64::from(self.0[class.index()])
    }

    /// Probes of several classes together.
    pub fn of_any(&self, classes: &[ProbeClass]) -> u64 {
        classes.iter().map(|class| self.of(*class)).sum()
    }

    /// The same numbers with only these classes.
    #[must_use]
    pub fn only(&self, classes: &[ProbeClass]) -> Self {
        let mut left = Self::ZERO;
        for class in classes {
            left.0[class.index()] = self.0[class.index()];
        }
        left
    }

    /// The names of classes with any probes, the most frequent first.
    pub fn by_name(&self) -> Vec<(String, u64)> {
        self.by_frequency().into_iter().map(|(class, count)| (class.label().to_owned(), count)).collect()
    }

    /// Classes with any probes, the most frequent first.
    pub fn by_frequency(&self) -> Vec<(ProbeClass, u64)> {
        let mut present: Vec<_> = ProbeClass::ALL
            .into_iter()
            .map(|class| (class, self.of(class)))
            .filter(|(_, n)| *n > 0)
            .collect();
        present.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        present
    }
}

fn add<const N: usize>(sum: &mut [u32; N], more: &[u32; N]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

fn since<const N: usize>(now: &[u32; N], before: &[u32; N]) -> [u32; N] {
    let mut delta = *now;
    for (new, old) in delta.iter_mut().zip(before) {
        *new = new.wrapping_sub(*old);
    }
    delta
}

/// The counters of a source at some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Totals {
    counts: [u32; COUNT_SLOTS],
    reach: [u32; REACHES],
    answers: [u32; ANSWERS],
    completed: u32,
    aborted: u32,
    silent: u32,
    overheard: u32,
}

impl From<&SourceState> for Totals {
    fn from(state: &SourceState) -> Self {
        let SourceState { counts, reach, answers, completed, aborted, silent, overheard, .. } = *state;
        Self { counts, reach, answers, completed, aborted, silent, overheard }
    }
}

/// [`Totals`] of a source while it sends nothing new.
pub(super) type PackedTotals = Packed<4, 1>;

impl Totals {
    /// Whether a SYN and ACK ever left for the source.
    pub(super) fn was_answered(&self) -> bool {
        self.answers[Answer::SynAck.index()] > 0
    }

    pub(super) fn pack(&self) -> PackedTotals {
        let words: &[u32; TOTALS] = transmute_ref!(self);
        Packed::of(words)
    }

    pub(super) fn unpack(packed: &PackedTotals) -> Self {
        let mut totals = Self::default();
        let words: &mut [u32; TOTALS] = transmute_mut!(&mut totals);
        packed.iter().for_each(|(place, word)| words[place] = word);
        totals
    }
}

/// Number of a source's counters in the kernel.
const TOTALS: usize = COUNT_SLOTS + REACHES + ANSWERS + 4;
/// Number of an activity's counters: those, and the numbers of crafted SYNs.
const COUNTERS: usize = TOTALS + 2;
/// The place of [`Activity::unsure`].
const UNSURE: usize = TOTALS - 1;
/// Number of words of an activity: first counters, then bitmaps.
const WORDS: usize = size_of::<Activity>() / size_of::<u32>();

/// The SYNs of a source that look like those of listed tools, see [`super::tools`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Crafted {
    /// Their number.
    pub syns: u32,
    /// The number of those that met no service.
    pub missed: u32,
    /// The tools, as bits.
    pub tools: u64,
}

impl Crafted {
    /// No such SYNs.
    pub const NONE: Self = Self { syns: 0, missed: 0, tools: 0 };
}

/// The activity of a source in some time.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Activity {
    /// Probes by class.
    pub counts: Counts,
    /// Probes by reach.
    reach: [u32; REACHES],
    /// Answers by kind.
    answers: [u32; ANSWERS],
    /// Connections that the kernel established.
    completed: u32,
    /// Handshakes that the source aborted.
    aborted: u32,
    /// Connections in which the source said nothing.
    silent: u32,
    /// SYNs whose answer would not have been seen. In this place, the counters of the kernel have those that were overheard.
    unsure: u32,
    /// See [`Crafted::syns`].
    crafted_syns: u32,
    /// See [`Crafted::missed`].
    crafted_missed: u32,
    /// The distinct things.
    pub distinct: Distinct,
    /// The kinds of its example targets.
    pub sampled: Sampled,
    /// See [`Crafted::tools`].
    tools: u64,
}

impl Activity {
    /// No activity.
    pub const NONE: Self = Self {
        counts: Counts::ZERO,
        reach: [0; REACHES],
        answers: [0; ANSWERS],
        completed: 0,
        aborted: 0,
        silent: 0,
        unsure: 0,
        crafted_syns: 0,
        crafted_missed: 0,
        distinct: Distinct::EMPTY,
        sampled: Sampled::NONE,
        tools: 0,
    };

    /// The difference between two readings of counters that may have wrapped.
    pub fn between(before: &Totals, now: &Totals, distinct: Distinct) -> Self {
        Self {
            counts: Counts(since(&now.counts, &before.counts)),
            reach: since(&now.reach, &before.reach),
            answers: since(&now.answers, &before.answers),
            completed: now.completed.wrapping_sub(before.completed),
            aborted: now.aborted.wrapping_sub(before.aborted),
            silent: now.silent.wrapping_sub(before.silent),
            unsure: now.overheard.wrapping_sub(before.overheard),
            distinct,
            ..Self::NONE
        }
    }

    /// The activity of all sources together, as far as the totals show it.
    pub fn of_totals(delta: &Tally) -> Self {
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let mut all = Self::NONE;
        all.counts.0.iter_mut().zip(delta.probes).for_each(|(to, from)| *to = count(from));
        all.reach = delta.reached.map(count);
        all.answers = delta.answers.map(count);
        all
    }

    /// The same activity, with examples of its targets.
    #[must_use]
    pub fn with_samples(self, samples: &[Sample], ports: PortRange) -> Self {
        Self { sampled: Sampled::of(samples, ports), ..self }
    }

    /// Distinct addresses that an actor asked and that lead nowhere.
    pub fn nowhere_hosts(&self) -> Estimate {
        estimate(&[self.distinct.nowhere_hosts()]).at_most(self.counts.of(ProbeClass::Syn))
    }

    /// Distinct addresses that answered an actor for the first time, where one logs in.
    pub fn login_hosts(&self) -> Estimate {
        estimate(&[self.distinct.login_hosts()]).at_most(self.answered(Answer::SynAck))
    }

    /// Distinct addresses of which a service answered by SYN and ACK, and none refused.
    pub fn met_hosts(&self) -> Estimate {
        let Distinct { answered_hosts, hosts, open_hosts, .. } = &self.distinct;
        // The bits of an address are the same in both.
        let met: [u64; ASKED_WORDS] = std::array::from_fn(|word| answered_hosts[word] & !hosts[word]);
        let (met, open) = (estimate(&met), estimate(&[*open_hosts]));
        let more = if met.value > open.value { met } else { open };
        more.at_most(self.answered(Answer::SynAck).max(self.reached(Reach::Open)))
    }

    /// The same activity where the answers to probes are not seen: nobody knows what became of SYNs with unknown reach.
    #[must_use]
    pub(crate) fn of_unseen_answers(self) -> Self {
        let unknown = self.reach[Reach::Unknown as usize];
        Self { unsure: unknown.min(self.counts.0[ProbeClass::Syn.index()]), ..self }
    }

    /// The same activity, of which this is crafted.
    #[must_use]
    pub fn with_crafted(self, crafted: Crafted) -> Self {
        let Crafted { syns, missed, tools } = crafted;
        Self { crafted_syns: syns, crafted_missed: missed, tools, ..self }
    }

    /// The SYNs that look like those of listed tools.
    pub fn crafted(&self) -> Crafted {
        Crafted { syns: self.crafted_syns, missed: self.crafted_missed, tools: self.tools }
    }

    pub(super) fn pack(&self) -> PackedActivity {
        let words: &[u32; WORDS] = transmute_ref!(self);
        Packed::of(words)
    }

    /// As [`Self::add_packed`], without the SYNs that may still be answered. Where answers are not seen, there is nothing
    /// to wait for.
    pub(super) fn add_packed_and_settled(&mut self, packed: &PackedActivity) {
        let Distinct { asked_services, asked_hosts, asked_families, .. } = self.distinct;
        self.add_packed(packed);
        if packed.iter().any(|(place, _)| place == UNSURE) {
            return;
        }
        self.distinct.asked_services = asked_services;
        self.distinct.asked_hosts = asked_hosts;
        self.distinct.asked_families = asked_families;
    }

    /// The activity that was packed.
    pub(super) fn unpack(packed: &PackedActivity) -> Self {
        let mut activity = Self::NONE;
        activity.add_packed(packed);
        activity
    }

    /// As [`Self::add`].
    pub(super) fn add_packed(&mut self, packed: &PackedActivity) {
        let words: &mut [u32; WORDS] = transmute_mut!(self);
        for (place, more) in packed.iter() {
            let word = &mut words[place];
            *word = if place < COUNTERS { word.saturating_add(more) } else { *word | more };
        }
    }

    /// Adds the activity of another time.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        add(&mut self.reach, &other.reach);
        add(&mut self.answers, &other.answers);
        self.completed = self.completed.saturating_add(other.completed);
        self.aborted = self.aborted.saturating_add(other.aborted);
        self.unsure = self.unsure.saturating_add(other.unsure);
        self.silent = self.silent.saturating_add(other.silent);
        self.crafted_syns = self.crafted_syns.saturating_add(other.crafted_syns);
        self.crafted_missed = self.crafted_missed.saturating_add(other.crafted_missed);
        self.distinct.union(&other.distinct);
        self.sampled.add(&other.sampled);
        self.tools |= other.tools;
    }

    /// Probes with this reach.
    pub fn reached(&self, reach: Reach) -> u64 {
        u64::from(self.reach[reach as usize])
    }

    /// Answers that left.
    pub fn answered(&self, answer: Answer) -> u64 {
        u64::from(self.answers[answer as usize])
    }

    /// Connections with the source that the kernel established. They prove that a host uses the address, not that it
    /// sent the probes.
    pub fn completed(&self) -> u64 {
        u64::from(self.completed)
    }

    /// Handshakes that the source aborted after this host's SYN and ACK. They prove nothing against the source: see
    /// [`scanguard_common::oracle::Decision::Ordinary::aborts`].
    pub fn aborted(&self) -> u64 {
        u64::from(self.aborted)
    }

    /// Distinct services of these handshakes.
    pub fn aborted_services(&self) -> Estimate {
        estimate(&[self.distinct.aborted_services]).at_most(self.aborted())
    }

    /// Those of these services that are not among the ones of another time.
    pub fn aborted_services_not_in(&self, other: &Self) -> Estimate {
        let new = self.distinct.aborted_services & !other.distinct.aborted_services;
        estimate(&[new]).at_most(self.aborted())
    }

    /// Distinct services on assigned ports (below 10,000) with which connections were completed.
    pub fn connected_services(&self) -> Estimate {
        estimate(&[self.distinct.connected_services]).at_most(self.completed())
    }

    /// Distinct services that were probed and did not answer: ports by protocol, and probed IP protocols.
    pub fn services(&self) -> Estimate {
        self.closed_services().and(self.unanswered_services()).at_most(self.counts.total())
    }

    /// Distinct addresses that were probed without meeting a service there.
    pub fn hosts(&self) -> Estimate {
        self.closed_hosts().and(self.unanswered_hosts()).at_most(self.counts.total())
    }

    /// Those services without the ones that a SYN asked for and that may have answered by another way.
    pub fn closed_services(&self) -> Estimate {
        estimate(&self.distinct.services).at_most(self.counts.total())
    }

    /// The same for addresses.
    pub fn closed_hosts(&self) -> Estimate {
        estimate(&self.distinct.hosts).at_most(self.counts.total())
    }

    /// Distinct services that a SYN asked for, and that did not answer.
    pub fn unanswered_services(&self) -> Estimate {
        estimate(&self.distinct.unanswered_services()).at_most(self.counts.of(ProbeClass::Syn))
    }

    /// Distinct addresses that a SYN asked, and that did not answer.
    pub fn unanswered_hosts(&self) -> Estimate {
        estimate(&self.distinct.unanswered_hosts()).at_most(self.counts.of(ProbeClass::Syn))
    }

    /// Families of services of which SYNs asked for some and met none, see [`scanguard_common::family`].
    pub fn failed_families(&self) -> u64 {
        u64::from(self.distinct.failed_families().count_ones())
    }

    /// Connections with services of this host in which the source said nothing.
    pub fn silent(&self) -> u64 {
        u64::from(self.silent)
    }

    /// Distinct services of these connections, below port 10,000.
    pub fn silent_services(&self) -> Estimate {
        silent_ports(self.distinct.silent_services()).at_most(self.silent())
    }

    /// Those of these services that are not among the ones of another time.
    pub fn silent_services_not_in(&self, other: &Self) -> Estimate {
        silent_ports(self.distinct.silent_services() & !other.distinct.silent_services())
            .at_most(self.silent())
    }

    /// Distinct addresses that refused segments of no connection although the service listens there.
    pub fn refused_hosts(&self) -> Estimate {
        let bits = self.distinct.refused_hosts();
        linear_count(u32::BITS, bits.count_zeros()).at_most(self.counts.of(ProbeClass::Ack))
    }

    /// SYNs whose answer would not have been seen.
    pub fn unsure(&self) -> u64 {
        u64::from(self.unsure)
    }

    /// Distinct addresses of which a service answered, where answers are seen.
    pub fn answered_hosts(&self) -> Estimate {
        estimate(&self.distinct.answered_hosts).at_most(self.answered(Answer::SynAck))
    }

    /// Distinct services that were met.
    pub fn open_services(&self) -> Estimate {
        estimate(&[self.distinct.open_services]).at_most(self.counts.total())
    }

    /// Distinct addresses where a service was met.
    pub fn open_hosts(&self) -> Estimate {
        estimate(&[self.distinct.open_hosts]).at_most(self.counts.total())
    }
}

/// The number of ports of [`Distinct::silent_services`]. It is exact as long as each port has a bit of its own.
fn silent_ports(bits: u32) -> Estimate {
    let exact = bits & ((1 << EXACT_PORTS) - 1);
    let shared = bits >> EXACT_PORTS;
    let places = u32::BITS - EXACT_PORTS as u32;
    let others = linear_count(places, places - shared.count_ones());
    Estimate { value: u64::from(exact.count_ones()), saturated: false }.and(others)
}

/// A finished [`Activity`]. It has room for one probe: its class, its reach, the answer, its service and address, and
/// the kind of its target.
pub(super) type PackedActivity = Packed<8, 3>;

impl PackedActivity {
    /// See [`Counts::total`].
    pub(super) fn probes(&self) -> u64 {
        let counts = self.iter().take_while(|(place, _)| *place < COUNT_SLOTS);
        counts.map(|(_, count)| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn activity(words: &[u32]) -> Activity {
        let mut activity = Activity::NONE;
        let all: &mut [u32; WORDS] = transmute_mut!(&mut activity);
        all.copy_from_slice(&words[..WORDS]);
        activity
    }

    proptest! {
        #[test]
        fn packed_activities_add_up_as_others_do(
            one in prop::collection::vec(prop_oneof![Just(0u32), any::<u32>()], WORDS),
            other in prop::collection::vec(prop_oneof![Just(0u32), any::<u32>()], WORDS),
        ) {
            let (one, other) = (activity(&one), activity(&other));
            let (mut packed, mut sum) = (one, one);
            packed.add_packed(&other.pack());
            sum.add(&other);
            prop_assert_eq!(packed, sum);
            prop_assert_eq!(other.pack().probes(), other.counts.total());
        }
    }
}
