//! What a source did, and when, in memory that grows with the logarithm of time.
//!
//! An exponential histogram (Datar, Gionis, Indyk, Motwani 2002): every poll in which a source probed adds
//! a bucket; when more than `PER_SIZE` buckets stand for the same number of polls, the two oldest of them
//! become one. Bitmaps unite and counters add up without loss, so that a window of any length can be
//! answered; only its far end is as coarse as the bucket that lies across it, which is left out. A window
//! thus sees at least `1 - 1/PER_SIZE` of what happened in it, and never more than happened.

use std::time::Duration;

use scanguard_common::{
    account::{COUNT_SLOTS, Distinct},
    outcome::ProbeClass,
};

use super::{
    Delta,
    distinct::{Estimate, estimate},
};

/// Buckets of one size that are kept apart.
const PER_SIZE: usize = 4;

/// Numbers of probes by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u32; COUNT_SLOTS]);

impl Counts {
    /// None.
    pub const ZERO: Self = Self([0; COUNT_SLOTS]);

    /// What was counted between two readings of counters that may have wrapped.
    pub fn since(now: &[u32; COUNT_SLOTS], before: &[u32; COUNT_SLOTS]) -> Self {
        let mut delta = *now;
        for (new, old) in delta.iter_mut().zip(before) {
            *new = new.wrapping_sub(*old);
        }
        Self(delta)
    }

    /// Whether there is none.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; COUNT_SLOTS]
    }

    /// Adds up; stays at the largest number rather than wrap.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*more);
        }
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

#[derive(Clone, Debug)]
struct Bucket {
    first: Duration,
    last: Duration,
    /// Two to this power polls.
    size: u8,
    counts: Counts,
    distinct: Distinct,
}

/// The history of one source; the newest bucket is the last.
#[derive(Clone, Debug, Default)]
pub struct History {
    buckets: Vec<Bucket>,
}

/// What a source did in a window of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Probes by class.
    pub counts: Counts,
    /// Bitmaps of distinct services and hosts.
    pub distinct: Distinct,
    /// When the first of them were seen.
    pub first: Duration,
}

impl Window {
    /// Distinct services: ports by protocol, and probed IP protocols.
    pub fn services(&self) -> Estimate {
        estimate(&self.distinct.services).at_most(self.counts.total())
    }

    /// Distinct addresses.
    pub fn hosts(&self) -> Estimate {
        estimate(&self.distinct.hosts).at_most(self.counts.total())
    }
}

impl History {
    /// Adds what was seen at a poll, and lets go what is older than the horizon.
    pub fn add(&mut self, delta: &Delta, at: Duration, horizon: Duration) {
        self.buckets.retain(|bucket| at.saturating_sub(bucket.last) <= horizon);
        self.buckets.push(Bucket {
            first: at,
            last: at,
            size: 0,
            counts: delta.counts,
            distinct: delta.distinct,
        });
        let mut size = 0;
        loop {
            let mut alike = self
                .buckets
                .iter()
                .enumerate()
                .filter(|(_, bucket)| bucket.size == size)
                .map(|(place, _)| place);
            let (Some(oldest), Some(next)) = (alike.next(), alike.next()) else {
                return;
            };
            if alike.count() + 2 <= PER_SIZE {
                return;
            }
            let newer = self.buckets.remove(next);
            let merged = &mut self.buckets[oldest];
            merged.last = newer.last;
            merged.size += 1;
            merged.counts.add(&newer.counts);
            merged.distinct.union(&newer.distinct);
            size += 1;
        }
    }

    /// What was done within `length` before `at`.
    pub fn window(&self, at: Duration, length: Duration) -> Window {
        let start = at.saturating_sub(length);
        let mut window = Window { counts: Counts::ZERO, distinct: Distinct::EMPTY, first: at };
        for bucket in self.buckets.iter().rev().take_while(|bucket| bucket.first >= start) {
            window.counts.add(&bucket.counts);
            window.distinct.union(&bucket.distinct);
            window.first = bucket.first;
        }
        window
    }

    /// When the source probed last; zero if it never did.
    pub fn last(&self) -> Duration {
        self.buckets.last().map_or(Duration::ZERO, |bucket| bucket.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HORIZON: Duration = Duration::from_secs(100_000);

    fn delta(syns: u32) -> Delta {
        let mut counts = [0; COUNT_SLOTS];
        counts[ProbeClass::Syn.index()] = syns;
        Delta { counts: Counts(counts), distinct: Distinct::EMPTY, samples: Default::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn recent_windows_are_exact() {
        let mut history = History::default();
        for second in 1..=4 {
            history.add(&delta(10), seconds(second), HORIZON);
        }
        assert_eq!(history.window(seconds(4), seconds(0)).counts.of(ProbeClass::Syn), 10);
        assert_eq!(history.window(seconds(4), seconds(2)).counts.of(ProbeClass::Syn), 30);
        assert_eq!(history.window(seconds(9), seconds(4)).counts.of(ProbeClass::Syn), 0);
    }

    #[test]
    fn memory_grows_with_the_logarithm_of_time() {
        let mut history = History::default();
        for second in 0..86_400 {
            history.add(&delta(1), seconds(second), seconds(1_000_000));
        }
        assert!(history.buckets.len() <= PER_SIZE * 17, "{}", history.buckets.len());
        let all = history.window(seconds(86_400), seconds(1_000_000));
        assert_eq!(all.counts.of(ProbeClass::Syn), 86_400);
    }

    #[test]
    fn what_is_older_than_the_horizon_goes() {
        let mut history = History::default();
        history.add(&delta(1), seconds(1), seconds(10));
        history.add(&delta(1), seconds(20), seconds(10));
        assert_eq!(history.buckets.len(), 1);
    }

    proptest! {
        #[test]
        fn a_window_sees_most_of_what_happened_in_it_and_never_more(
            gaps in prop::collection::vec(1u64..30, 1..400), length in 1u64..5000
        ) {
            let mut history = History::default();
            let mut times = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                times.push(now);
                history.add(&delta(1), seconds(now), HORIZON);
            }
            let exact = times.iter().filter(|time| now - **time <= length).count() as f64;
            let seen = history.window(seconds(now), seconds(length)).counts.of(ProbeClass::Syn) as f64;
            prop_assert!(seen <= exact);
            // The bucket across the far end is no larger than what is nearer, divided by its peers.
            prop_assert!(seen >= exact * 0.6 - 1.0, "{seen} of {exact}");
        }
    }
}
