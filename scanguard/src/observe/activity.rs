//! What a source did in some time: the unit in which deltas, histories and windows count.

use scanguard_common::{
    account::{ANSWERS, Answer, COUNT_SLOTS, Distinct, Sample, SourceState},
    oracle::{REACHES, Reach},
    outcome::ProbeClass,
};

use super::{
    distinct::{Estimate, estimate},
    sampled::Sampled,
};

/// Numbers of probes by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u32; COUNT_SLOTS]);

impl Counts {
    /// None.
    pub const ZERO: Self = Self([0; COUNT_SLOTS]);

    /// Adds up; stays at the largest number rather than wrap.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.0, &other.0);
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Those of one class.
    pub fn of(&self, class: ProbeClass) -> u64 {
        u64::from(self.0[class.index()])
    }

    /// Those of several classes together.
    pub fn of_any(&self, classes: &[ProbeClass]) -> u64 {
        classes.iter().map(|class| self.of(*class)).sum()
    }

    /// The same with only some classes left.
    #[must_use]
    pub fn only(&self, classes: &[ProbeClass]) -> Self {
        let mut left = Self::ZERO;
        for class in classes {
            left.0[class.index()] = self.0[class.index()];
        }
        left
    }

    /// Classes with any, the most frequent first.
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

/// The counters of a source as they were at some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    counts: [u32; COUNT_SLOTS],
    reach: [u32; REACHES],
    answers: [u32; ANSWERS],
    completed: u32,
    aborted: u32,
}

impl From<&SourceState> for Totals {
    fn from(state: &SourceState) -> Self {
        let SourceState { counts, reach, answers, completed, aborted, .. } = *state;
        Self { counts, reach, answers, completed, aborted }
    }
}

/// What a source did in some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity {
    /// Probes by class.
    pub counts: Counts,
    /// The same by what they met.
    reach: [u32; REACHES],
    /// What was answered.
    answers: [u32; ANSWERS],
    /// Connections of which a segment was seen after their handshake.
    completed: u32,
    /// Handshakes that the source aborted.
    aborted: u32,
    /// What was distinct.
    pub distinct: Distinct,
    /// What kind of targets the examples are.
    pub sampled: Sampled,
}

impl Activity {
    /// Nothing.
    pub const NONE: Self = Self {
        counts: Counts::ZERO,
        reach: [0; REACHES],
        answers: [0; ANSWERS],
        completed: 0,
        aborted: 0,
        distinct: Distinct::EMPTY,
        sampled: Sampled::NONE,
    };

    /// What came between two readings of counters that may have wrapped.
    pub fn between(before: &Totals, now: &Totals, distinct: Distinct) -> Self {
        Self {
            counts: Counts(since(&now.counts, &before.counts)),
            reach: since(&now.reach, &before.reach),
            answers: since(&now.answers, &before.answers),
            completed: now.completed.wrapping_sub(before.completed),
            aborted: now.aborted.wrapping_sub(before.aborted),
            distinct,
            sampled: Sampled::NONE,
        }
    }

    /// The same with examples of its targets.
    #[must_use]
    pub fn with_samples(self, samples: &[Sample]) -> Self {
        Self { sampled: Sampled::of(samples), ..self }
    }

    /// Adds what was done in another time.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        add(&mut self.reach, &other.reach);
        add(&mut self.answers, &other.answers);
        self.completed = self.completed.saturating_add(other.completed);
        self.aborted = self.aborted.saturating_add(other.aborted);
        self.distinct.union(&other.distinct);
        self.sampled.add(&other.sampled);
    }

    /// Probes that met this.
    pub fn reached(&self, reach: Reach) -> u64 {
        u64::from(self.reach[reach as usize])
    }

    /// Answers that went out.
    pub fn answered(&self, answer: Answer) -> u64 {
        u64::from(self.answers[answer as usize])
    }

    /// Connections of which a segment was seen after their handshake: the source's address is no forgery.
    pub fn completed(&self) -> u64 {
        u64::from(self.completed)
    }

    /// Handshakes that the source aborted after this host's SYN and ACK. No proof against it: see
    /// [`scanguard_common::oracle::Handshake::Aborted`].
    pub fn aborted(&self) -> u64 {
        u64::from(self.aborted)
    }

    /// Distinct services with which it did that.
    pub fn aborted_services(&self) -> Estimate {
        estimate(&[self.distinct.aborted_services]).at_most(self.aborted())
    }

    /// Of these services those that are not among the ones of another time.
    pub fn aborted_services_not_in(&self, other: &Self) -> Estimate {
        let new = self.distinct.aborted_services & !other.distinct.aborted_services;
        estimate(&[new]).at_most(self.aborted())
    }

    /// Distinct services that were probed and not met: ports by protocol, and probed IP protocols.
    pub fn services(&self) -> Estimate {
        estimate(&self.distinct.services).at_most(self.counts.total())
    }

    /// Distinct addresses that were probed and where no service was met.
    pub fn hosts(&self) -> Estimate {
        estimate(&self.distinct.hosts).at_most(self.counts.total())
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
