//! Snapshots of the kernel's counters to deltas, and deltas to a bounded history of each source. Pure.
//!
//! The kernel's table holds totals since a source was inserted. The [`Observer`] remembers the totals it
//! saw last, and what it forgets it has the kernel forget too, so that nothing is ever counted twice.

pub mod activity;
pub mod distinct;
pub mod history;
pub mod metrics;
mod packed;
pub mod sampled;
pub mod settings;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use indexmap::{IndexMap, map::Entry};
use scanguard_common::{
    account::{Distinct, SAMPLES, Sample, SourceState},
    address::Address,
};

use self::{
    activity::{Activity, PackedTotals, Totals},
    history::History,
    settings::Settings,
};

/// Distinct services or addresses without an answer since an agent looked last: more than clients go wrong.
const LIKE_A_SCAN: u32 = 8;

/// What one source did since it was looked at last.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// What is new.
    pub activity: Activity,
    /// Examples of targets.
    pub samples: [Sample; SAMPLES],
}

/// What is known of one source.
struct Record {
    /// Tells the kernel's entry from an earlier one of the same source.
    born_ns: u64,
    /// Totals at the last look.
    totals: PackedTotals,
    /// Whether it sent more than one probe.
    repeated: bool,
    history: History,
}

/// What a source takes of which a single probe was seen, at least: its record with its address and hash, and a place in the
/// index.
pub const BYTES_PER_SOURCE: usize = size_of::<Record>() + size_of::<Address>() + 2 * size_of::<u64>() + 1;

/// Records that are looked at in one [`Observer::expire`], at least.
const LEAST_SWEPT: usize = 4_096;
/// All of them are looked at in no more calls than this.
const MOST_SWEEPS: usize = 64;

/// The histories of all sources.
pub struct Observer {
    settings: Settings,
    /// In an order, so that they can be gone through by and by.
    records: IndexMap<Address, Record>,
    /// Up to where they were.
    swept: usize,
    evictions: u64,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, records: IndexMap::new(), swept: 0, evictions: 0 }
    }

    /// What is known of a source.
    pub fn history(&self, source: &Address) -> Option<&History> {
        self.records.get(source).map(|record| &record.history)
    }

    /// The sources that probed since some time: those with the greatest key first, at most so many, and how many there
    /// are in all. One pass over all that is remembered, which keeps no more than `most`.
    pub fn greatest<K: Ord>(
        &self,
        since: Duration,
        most: usize,
        key: impl Fn(&History) -> K,
    ) -> (Vec<(Address, &History)>, usize) {
        let mut active = 0;
        // Of who was there before this agent nothing is remembered.
        let probed = |history: &History| history.last() >= since && history.probes() > 0;
        let lately = self.records.iter().filter(|(_, record)| probed(&record.history));
        let keys = lately.inspect(|_| active += 1).map(|(source, record)| (key(&record.history), *source));
        let sources = greatest(keys, most);
        let known = sources.into_iter().filter_map(|(_, source)| Some((source, self.history(&source)?)));
        (known.collect(), active)
    }

    /// Takes other settings; what they no longer allow goes at the next [`Self::expire`].
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes the state of a source and gives what is new in it, with the history that includes it.
    /// Gives nothing for a state that says nothing new.
    pub fn see(
        &mut self,
        source: &Address,
        state: &SourceState,
        ended_epoch: u32,
        at: Duration,
    ) -> Option<(Delta, &History)> {
        let (record, is_new) = match self.records.entry(*source) {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(entry) => {
                let record = Record {
                    born_ns: state.born_ns,
                    totals: PackedTotals::default(),
                    repeated: false,
                    history: History::default(),
                };
                (entry.insert(record), true)
            }
        };
        if record.born_ns != state.born_ns {
            record.born_ns = state.born_ns;
            record.totals = PackedTotals::default();
        }
        let (before, totals) = (Totals::unpack(&record.totals), Totals::from(state));
        if totals == before {
            return None;
        }
        let activity = Activity::between(&before, &totals, state.distinct_since(ended_epoch));
        record.totals = totals.pack();
        record.repeated |= !is_new || activity.counts.total() > 1;
        let mut samples = state.samples;
        for sample in &mut samples {
            let age = ended_epoch.wrapping_add(1).wrapping_sub(sample.epoch);
            if sample.taken == 1 && age > 2 {
                *sample = Sample::default();
            }
        }
        let activity = activity.with_samples(&samples);
        record.history.add(&activity, at, self.settings.horizon);
        Some((Delta { activity, samples }, &record.history))
    }

    /// Takes the state of a source that an agent before this one has read: what it counted until now is not new,
    /// and nothing is remembered of it. Unless it did so much from the epoch `unread` on, at which nobody has looked yet,
    /// that this looks like a scan: then it is left to be seen as a whole, rather than missed.
    pub fn resume(&mut self, source: &Address, state: &SourceState, unread: u32) {
        let unseen = state.distinct_since(unread);
        let set = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        if set(&unseen.services).max(set(&unseen.hosts)) >= LIKE_A_SCAN {
            return;
        }
        let totals = Totals::from(state);
        let repeated = Activity::between(&Totals::default(), &totals, Distinct::EMPTY).counts.total() > 1;
        let record =
            Record { born_ns: state.born_ns, totals: totals.pack(), repeated, history: History::default() };
        self.records.insert(*source, record);
    }

    /// Forgets sources that were quiet for longer than the horizon, and, beyond the cap, those that showed least and of
    /// them those that were quiet longest: a flood of sources that are seen once pushes out nobody else. Has `forget`
    /// take them out of the kernel's table too, and gives how many were still there.
    ///
    /// A call looks at a part of them, unless there are too many: all are looked at within 64 calls.
    ///
    /// # Errors
    /// That of `forget`; the sources that were not reached are tried again later.
    pub fn expire<E>(
        &mut self,
        at: Duration,
        mut forget: impl FnMut(&Address) -> Result<Option<SourceState>, E>,
    ) -> Result<u64, E> {
        let horizon = self.settings.horizon;
        let old = |record: &Record| at.saturating_sub(record.history.last()) > horizon;
        let (all, cap) = (self.records.len(), self.settings.max_sources as usize);
        let part = if all > cap { all } else { LEAST_SWEPT.max(all.div_ceil(MOST_SWEEPS)).min(all) };
        let mut quiet = Vec::new();
        for _ in 0..part {
            self.swept = if self.swept < all { self.swept } else { 0 };
            if let Some((source, _)) = self.records.get_index(self.swept).filter(|(_, record)| old(record)) {
                quiet.push(*source);
            }
            self.swept += 1;
        }
        let left = all - quiet.len();
        if left > cap {
            // One in sixteen goes, so that this is not done at each poll of a flood.
            let excess = left - (cap - cap / 16);
            let mut by_age: Vec<_> = self
                .records
                .iter()
                .filter(|(_, record)| !old(record))
                .map(|(source, record)| (record.repeated, record.history.last(), *source))
                .collect();
            by_age.select_nth_unstable(excess - 1);
            quiet.extend(by_age.iter().take(excess).map(|(.., source)| *source));
            self.evictions += excess as u64;
        }
        let mut taken = 0;
        for source in quiet {
            let last = forget(&source)?;
            taken += u64::from(last.is_some());
            self.forget(&source, last.as_ref(), at);
        }
        Ok(taken)
    }

    /// Drops a record, unless the kernel's last state of it shows that the source has probed just now.
    fn forget(&mut self, source: &Address, last: Option<&SourceState>, at: Duration) {
        let Entry::Occupied(mut entry) = self.records.entry(*source) else {
            return;
        };
        let record = entry.get_mut();
        let before = Totals::unpack(&record.totals);
        let news = last.filter(|state| state.born_ns == record.born_ns && Totals::from(*state) != before);
        let Some(state) = news else {
            entry.swap_remove();
            return;
        };
        let totals = Totals::from(state);
        let activity = Activity::between(&before, &totals, state.distinct_since(state.epoch));
        record.history.add(&activity, at, self.settings.horizon);
        record.totals = totals.pack();
    }

    /// Sources whose history is kept.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no history is kept.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Histories given up because there were too many.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// The greatest of many, at most so many, the greatest first; never more than that are kept on the way.
pub fn greatest<T: Ord>(of: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    // The least of those that are kept is on top.
    let mut kept = BinaryHeap::with_capacity(most + 1);
    for one in of {
        if kept.len() < most || kept.peek().is_some_and(|Reverse(least)| *least < one) {
            kept.push(Reverse(one));
        }
        if kept.len() > most {
            kept.pop();
        }
    }
    kept.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::Ipv4Addr};

    use scanguard_common::{
        account::{Unshared, record},
        oracle::Reach,
        outcome::{Flow, ProbeClass, Service},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> Address {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn probed(state: &mut SourceState, ports: std::ops::Range<u16>, epoch: u32) {
        for port in ports {
            let flow = Flow {
                source: address(1),
                destination: address(2),
                service: Service { protocol: 6, port },
                source_port: 40_000,
                reserved: 0,
            };
            // SAFETY: an exclusive reference.
            let _news =
                unsafe { record::<Unshared>(state, ProbeClass::Syn.index(), Reach::Closed, &flow, epoch, 1) };
        }
    }

    fn observer(max_sources: u32) -> Observer {
        Observer::new(Settings { max_sources, horizon: 60 * SECOND })
    }

    fn syns(seen: Option<(Delta, &History)>) -> u64 {
        seen.map_or(0, |(delta, _)| delta.activity.counts.of(ProbeClass::Syn))
    }

    /// What is forgotten at this time, from a kernel's table that has none of it any more.
    fn forgotten(observer: &mut Observer, at: Duration) -> Vec<Address> {
        let mut sources = Vec::new();
        let gone = |source: &Address| {
            sources.push(*source);
            Ok::<_, Infallible>(None)
        };
        assert_eq!(observer.expire(at, gone), Ok(0));
        sources.sort();
        sources
    }

    #[test]
    fn a_probe_that_came_while_its_source_was_forgotten_is_not_lost() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..1, 1);
        observer.see(&address(1), &state, 1, SECOND);
        probed(&mut state, 1..4, 70);
        let taken = observer.expire(70 * SECOND, |_| Ok::<_, Infallible>(Some(state)));
        assert_eq!((taken, observer.len()), (Ok(1), 1));
        let mut again = SourceState::new(200, 71);
        probed(&mut again, 4..5, 71);
        let (_, history) = observer.see(&address(1), &again, 71, 71 * SECOND).unwrap();
        assert_eq!(history.window(71 * SECOND, 10 * SECOND).activity.counts.of(ProbeClass::Syn), 4);
    }

    #[test]
    fn each_probe_is_counted_once() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..10, 1);
        assert_eq!(syns(observer.see(&address(1), &state, 1, SECOND)), 10);
        assert_eq!(syns(observer.see(&address(1), &state, 2, 2 * SECOND)), 0);
        probed(&mut state, 0..5, 3);
        assert_eq!(syns(observer.see(&address(1), &state, 3, 3 * SECOND)), 5);
    }

    #[test]
    fn what_an_agent_before_has_read_is_not_counted_again() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..10, 1);
        observer.resume(&address(1), &state, 2);
        assert_eq!(syns(observer.see(&address(1), &state, 7, SECOND)), 0);
        probed(&mut state, 0..5, 8);
        assert_eq!(syns(observer.see(&address(1), &state, 8, 2 * SECOND)), 5);
        assert_eq!(forgotten(&mut observer, 63 * SECOND), [address(1)], "quiet for longer than the horizon");
    }

    #[test]
    fn a_scan_that_no_agent_has_seen_is_not_taken_for_read() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..10, 1);
        probed(&mut state, 0..200, 2);
        observer.resume(&address(1), &state, 2);
        assert_eq!(syns(observer.see(&address(1), &state, 2, SECOND)), 210);
    }

    #[test]
    fn counters_may_wrap() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        state.counts[ProbeClass::Syn.index()] = u32::MAX;
        assert_eq!(syns(observer.see(&address(1), &state, 1, SECOND)), u64::from(u32::MAX));
        probed(&mut state, 0..3, 2);
        assert_eq!(syns(observer.see(&address(1), &state, 2, 2 * SECOND)), 3);
    }

    #[test]
    fn a_source_that_was_evicted_and_came_back_is_counted_from_zero() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..10, 1);
        observer.see(&address(1), &state, 1, SECOND);
        let mut again = SourceState::new(200, 2);
        probed(&mut again, 0..12, 2);
        assert_eq!(syns(observer.see(&address(1), &again, 2, 2 * SECOND)), 12);
    }

    #[test]
    fn quiet_sources_are_forgotten_after_the_horizon() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..1, 1);
        observer.see(&address(1), &state, 1, SECOND);
        assert_eq!(forgotten(&mut observer, 61 * SECOND), []);
        assert_eq!(forgotten(&mut observer, 62 * SECOND), [address(1)]);
        assert!(observer.is_empty());
        assert_eq!(observer.evictions(), 0);
    }

    #[test]
    fn beyond_the_cap_the_quietest_go() {
        let mut observer = observer(32);
        for last in 0..40 {
            let mut state = SourceState::new(100, 1);
            probed(&mut state, 0..1, 1);
            observer.see(&address(last), &state, 1, SECOND * u32::from(last));
        }
        let gone = forgotten(&mut observer, 40 * SECOND);
        assert_eq!(gone, (0..10).map(address).collect::<Vec<_>>());
        assert_eq!((observer.len(), observer.evictions()), (30, 10));
    }

    #[test]
    fn beyond_the_cap_those_that_were_seen_once_go_first() {
        let mut observer = observer(32);
        for last in 0..40 {
            let mut state = SourceState::new(100, 1);
            probed(&mut state, 0..if last < 3 { 2 } else { 1 }, 1);
            observer.see(&address(last), &state, 1, SECOND * u32::from(last));
        }
        let gone = forgotten(&mut observer, 40 * SECOND);
        assert_eq!(gone, (3..13).map(address).collect::<Vec<_>>());
    }

    #[test]
    fn the_greatest_come_first_and_who_is_long_quiet_not_at_all() {
        let mut observer = observer(10);
        for last in 0..8 {
            let mut state = SourceState::new(100, 1);
            probed(&mut state, 0..u16::from(last % 4) + 1, 1);
            observer.see(&address(last), &state, 1, SECOND * u32::from(last));
        }
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..2, 1);
        observer.resume(&address(9), &state, 1);
        assert_eq!(observer.greatest(Duration::ZERO, 9, History::probes).1, 8, "only who probed since");
        let (sources, active) = observer.greatest(2 * SECOND, 3, History::probes);
        let sources: Vec<_> = sources.into_iter().map(|(source, _)| source).collect();
        assert_eq!((sources, active), (vec![address(7), address(3), address(6)], 6));
        assert_eq!(greatest([1, 5, 2].into_iter(), 0), [0; 0]);
        assert_eq!(greatest([1, 5, 2].into_iter(), 9), [5, 2, 1]);
    }

    #[test]
    fn old_examples_are_not_given_again() {
        let mut observer = observer(10);
        let mut state = SourceState::new(100, 1);
        probed(&mut state, 0..4, 1);
        observer.see(&address(1), &state, 1, SECOND);
        probed(&mut state, 0..1, 50);
        let (delta, _) = observer.see(&address(1), &state, 50, 50 * SECOND).unwrap();
        assert_eq!(delta.samples.iter().filter(|sample| sample.taken == 1).count(), 1);
    }
}
