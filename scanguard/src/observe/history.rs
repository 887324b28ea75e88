//! The activity of a source over time, in memory that grows with the logarithm of time.
//!
//! An exponential histogram (Datar, Gionis, Indyk, Motwani 2002). Every poll in which a source probed adds a bucket.
//! When more than `PER_SIZE` buckets stand for the same number of polls, the two oldest of them merge. Bitmaps and
//! counters merge without loss, so that any window can be asked for. Only its far end is coarse: the bucket across
//! that end is left out. So a window sees at least `1 - 1/PER_SIZE` of what happened in it, and never more than
//! happened.

use std::time::Duration;

use scanguard_common::{
    account::Distinct,
    outcome::{Answer, ProbeClass},
    sketch::ASKED_WORDS,
};
use smallvec::SmallVec;

use super::{
    activity::{Activity, PackedActivity},
    answers::HANDSHAKE,
};

/// How many buckets of one size are kept apart.
const PER_SIZE: usize = 4;

#[derive(Clone, Debug)]
struct Bucket {
    /// Nanoseconds, like all times here: they take half the memory of a [`Duration`].
    first: u64,
    last: u64,
    /// It stands for two to this power polls.
    size: u8,
    activity: PackedActivity,
}

/// The largest number of nanoseconds, a time in the year 2554.
fn nanoseconds(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// The history of one source, newest bucket last. Most sources are seen once, and nearly all in a flood: a single
/// bucket takes no further memory.
#[derive(Clone, Debug, Default)]
pub struct History {
    buckets: SmallVec<[Bucket; 1]>,
}

/// The activity of a source in a window of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its activity.
    pub activity: Activity,
    /// When its first part was seen.
    pub first: Duration,
    /// What is left out of the activity's bitmaps.
    pub waiting: Waiting,
}

impl Window {
    /// The activity with what may still be answered in its bitmaps, too: all that was asked for.
    pub fn asked(&self) -> Activity {
        let mut activity = self.activity;
        let Distinct { asked_services, asked_hosts, .. } = &mut activity.distinct;
        add(asked_services, &self.waiting.services);
        add(asked_hosts, &self.waiting.hosts);
        activity
    }
}

/// Adds bits.
fn add(words: &mut [u64], more: &[u64]) {
    words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
}

/// What SYNs asked for a moment ago, and may still be answered. The numbers of the activity have it, its bitmaps have not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    /// Bitmap of the services.
    pub services: [u64; ASKED_WORDS],
    /// Bitmap of the addresses.
    pub hosts: [u64; ASKED_WORDS],
    /// The SYNs.
    syns: u64,
    /// What came of SYNs meanwhile.
    fates: u64,
}

impl Waiting {
    /// Nothing waits.
    pub const NONE: Self = Self { services: [0; ASKED_WORDS], hosts: [0; ASKED_WORDS], syns: 0, fates: 0 };

    fn add(&mut self, activity: &Activity) {
        add(&mut self.services, &activity.distinct.asked_services);
        add(&mut self.hosts, &activity.distinct.asked_hosts);
        self.syns += activity.counts.of(ProbeClass::Syn);
        let fates = [Answer::SynAck, Answer::Reset, Answer::Unreachable];
        self.fates += fates.into_iter().map(|fate| activity.answered(fate)).sum::<u64>();
    }

    /// How many of the SYNs have no fate yet: most answers are to SYNs of the same moment.
    pub fn syns(&self) -> u64 {
        self.syns.saturating_sub(self.fates)
    }
}

impl History {
    /// Adds the activity of a poll, and forgets what is older than the horizon.
    pub fn add(&mut self, activity: &Activity, at: Duration, horizon: Duration) {
        let (now, horizon) = (nanoseconds(at), nanoseconds(horizon));
        self.buckets.retain(|bucket| now.saturating_sub(bucket.last) <= horizon);
        self.buckets.push(Bucket { first: now, last: now, size: 0, activity: activity.pack() });
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
            let mut both = Activity::NONE;
            both.add_packed(&merged.activity);
            both.add_packed(&newer.activity);
            merged.activity = both.pack();
            size += 1;
        }
    }

    /// The activity within `length` before `at`. What was asked a moment ago and may still be answered is left out, see
    /// [`HANDSHAKE`].
    pub fn window(&self, at: Duration, length: Duration) -> Window {
        let start = nanoseconds(at.saturating_sub(length));
        let mut window = Window { activity: Activity::NONE, first: at, waiting: Waiting::NONE };
        let settled = nanoseconds(at.saturating_sub(HANDSHAKE));
        for bucket in self.buckets.iter().rev().take_while(|bucket| bucket.first >= start) {
            if bucket.last > settled {
                window.activity.add_packed_and_settled(&bucket.activity);
                window.waiting.add(&Activity::unpack(&bucket.activity));
            } else {
                window.activity.add_packed(&bucket.activity);
            }
            window.first = Duration::from_nanos(bucket.first);
        }
        window
    }

    /// The activity before that window. Each bucket is in exactly one of the two.
    pub fn before(&self, at: Duration, length: Duration) -> Activity {
        let start = nanoseconds(at.saturating_sub(length));
        let mut earlier = Activity::NONE;
        for bucket in self.buckets.iter().take_while(|bucket| bucket.first < start) {
            earlier.add_packed(&bucket.activity);
        }
        earlier
    }

    /// All remembered probes.
    pub fn probes(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.activity.probes()).sum()
    }

    /// The probes within `length` before `at`.
    pub fn probes_within(&self, at: Duration, length: Duration) -> u64 {
        let start = nanoseconds(at.saturating_sub(length));
        let recent = self.buckets.iter().rev().take_while(|bucket| bucket.first >= start);
        recent.map(|bucket| bucket.activity.probes()).sum()
    }

    /// When the source sent its last probe; zero if it never did.
    pub fn last(&self) -> Duration {
        self.buckets.last().map_or(Duration::ZERO, |bucket| Duration::from_nanos(bucket.last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scanguard_common::account::SourceState;

    use super::*;
    use crate::observe::activity::Totals;

    const HORIZON: Duration = Duration::from_secs(100_000);

    fn syns(count: u32) -> Activity {
        let mut state = SourceState::new(0, 0);
        state.counts[ProbeClass::Syn.index()] = count;
        Activity::between(&Totals::default(), &Totals::from(&state), Distinct::EMPTY)
    }

    fn seen(window: Window) -> u64 {
        window.activity.counts.of(ProbeClass::Syn)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn recent_windows_are_exact() {
        let mut history = History::default();
        for second in 1..=4 {
            history.add(&syns(10), seconds(second), HORIZON);
        }
        assert_eq!(seen(history.window(seconds(4), seconds(0))), 10);
        assert_eq!(seen(history.window(seconds(4), seconds(2))), 30);
        assert_eq!(seen(history.window(seconds(9), seconds(4))), 0);
    }

    #[test]
    fn memory_grows_with_the_logarithm_of_time() {
        let mut history = History::default();
        for second in 0..86_400 {
            history.add(&syns(1), seconds(second), seconds(1_000_000));
        }
        assert!(history.buckets.len() <= PER_SIZE * 17, "{}", history.buckets.len());
        let all = history.window(seconds(86_400), seconds(1_000_000));
        assert_eq!(seen(all), 86_400);
    }

    #[test]
    fn what_is_older_than_the_horizon_goes() {
        let mut history = History::default();
        history.add(&syns(1), seconds(1), seconds(10));
        history.add(&syns(1), seconds(20), seconds(10));
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
                history.add(&syns(1), seconds(now), HORIZON);
            }
            let exact = times.iter().filter(|time| now - **time <= length).count() as f64;
            let saw = seen(history.window(seconds(now), seconds(length)));
            let earlier = history.before(seconds(now), seconds(length)).counts.of(ProbeClass::Syn);
            prop_assert_eq!(saw + earlier, times.len() as u64);
            let saw = saw as f64;
            prop_assert!(saw <= exact);
            // The bucket across the far end is at most as large as the nearer ones, divided by its peers.
            prop_assert!(saw >= exact * 0.6 - 1.0, "{saw} of {exact}");
        }
    }
}
