//! Turns snapshots of the kernel's counters into deltas, and deltas into a bounded history of each source. Pure.
//!
//! The kernel's table has totals since a source was inserted. The [`Observer`] remembers the last totals that it saw.
//! When it forgets a source, it also removes the source from the kernel's table, so that nothing is ever counted
//! twice.

pub mod activity;
pub mod answers;
pub mod distinct;
pub mod history;
pub mod metrics;
pub mod overdue;
mod packed;
pub mod sampled;
pub mod seen;
pub mod settings;
pub mod tools;

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use indexmap::{IndexMap, map::Entry};
use scanguard_common::{
    account::{Distinct, SAMPLES, Sample, SourceState},
    address::Address,
    outcome::{PortRange, ProbeClass},
};

use self::{
    activity::{Activity, Crafted, PackedTotals, Totals},
    answers::Answers,
    history::History,
    settings::Settings,
    tools::{LastRead, SynTools},
};

/// Distinct services or addresses without an answer since the last agent looked: clients never fail at so many.
const LIKE_A_SCAN: u32 = 8;

/// The activity of one source since the last look.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The new activity.
    pub activity: Activity,
    /// Examples of targets.
    pub samples: [Sample; SAMPLES],
}

/// The record of one source.
struct Record {
    /// Distinguishes the kernel's entry from an earlier one of the same source.
    born_ns: u64,
    /// The totals at the last look.
    totals: PackedTotals,
    /// Whether the source sent more than one probe.
    repeated: bool,
    /// Its fingerprints at the last look, and the number of the list that they were compared with.
    fingerprints: LastRead,
    list: u32,
    history: History,
}

impl Record {
    /// What of some new activity is crafted. After a change of the list it is not known since when there were crafted
    /// SYNs: then none of them are new.
    fn crafted(&mut self, state: &SourceState, new: &Activity, tools: &SynTools, list: u32) -> Crafted {
        let syns = u32::try_from(new.counts.of(ProbeClass::Syn)).unwrap_or(u32::MAX);
        let crafted = self.fingerprints.news(state, tools, syns);
        if std::mem::replace(&mut self.list, list) == list { crafted } else { Crafted::NONE }
    }
}

/// How many bytes a source with a single probe takes at least: its record with its address and hash, and a place in
/// the index.
pub const BYTES_PER_SOURCE: usize = size_of::<Record>() + size_of::<Address>() + 2 * size_of::<u64>() + 1;

/// How many records one [`Observer::expire`] looks at, at least.
const LEAST_SWEPT: usize = 4_096;
/// This many calls look at all of them.
const MOST_SWEEPS: usize = 64;

/// The histories of all sources.
pub struct Observer {
    settings: Settings,
    /// From where this host calls.
    ports: PortRange,
    answers: Answers,
    /// Whether the answers to probes are seen.
    sees_answers: bool,
    /// The list of fingerprints, and how many there were before.
    tools: Arc<SynTools>,
    list: u32,
    /// They are in an order, so that several calls can go through them.
    records: IndexMap<Address, Record>,
    /// The position of the last call.
    swept: usize,
    evictions: u64,
}

impl Observer {
    /// Nothing was seen yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ports: PortRange::DEFAULT,
            answers: Answers::default(),
            sees_answers: false,
            tools: Arc::default(),
            list: 0,
            records: IndexMap::new(),
            swept: 0,
            evictions: 0,
        }
    }

    /// The history of a source.
    pub fn history(&self, source: &Address) -> Option<&History> {
        self.records.get(source).map(|record| &record.history)
    }

    /// The sources that sent probes since some time: the ones with the greatest keys first, at most this many, and the
    /// number of all. It is one pass over all records, and keeps no more than `most` of them.
    pub fn greatest<K: Ord>(
        &self,
        since: Duration,
        most: usize,
        key: impl Fn(&History) -> K,
    ) -> (Vec<(Address, &History)>, usize) {
        let mut active = 0;
        // Nothing is remembered of sources from before this agent.
        let probed = |history: &History| history.last() >= since && history.probes() > 0;
        let lately = self.records.iter().filter(|(_, record)| probed(&record.history));
        let keys = lately.inspect(|_| active += 1).map(|(source, record)| (key(&record.history), *source));
        let sources = greatest(keys, most);
        let known = sources.into_iter().filter_map(|(_, source)| Some((source, self.history(&source)?)));
        (known.collect(), active)
    }

    /// Changes the settings. The next [`Self::expire`] forgets what they no longer allow.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Sets the ports from which this host calls. At first they are Linux's default.
    pub fn set_ports(&mut self, ports: PortRange) {
        self.ports = ports;
    }

    /// Whether the answers to probes are seen, where what leaves is (`sees_leaving`), see [`answers`].
    pub fn sees_answers(&mut self, sees_leaving: bool) -> bool {
        self.sees_answers = sees_leaving && self.answers.are_seen();
        self.sees_answers
    }

    /// Replaces the list of fingerprints. What was counted with another list keeps its names.
    pub fn set_tools(&mut self, tools: &SynTools) {
        let tools = tools.after(&self.tools);
        if tools != *self.tools {
            self.tools = Arc::new(tools);
            self.list = self.list.wrapping_add(1);
        }
    }

    /// The list of fingerprints in use.
    pub fn tools(&self) -> &Arc<SynTools> {
        &self.tools
    }

    /// Takes the state of a source. Returns what is new in it, with the history that includes it, or nothing if
    /// nothing is new.
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
                    fingerprints: LastRead::default(),
                    list: self.list,
                    history: History::default(),
                };
                (entry.insert(record), true)
            }
        };
        if record.born_ns != state.born_ns {
            record.born_ns = state.born_ns;
            record.totals = PackedTotals::default();
            record.fingerprints = LastRead::default();
        }
        let (before, totals) = (Totals::unpack(&record.totals), Totals::from(state));
        if totals == before {
            return None;
        }
        let activity = Activity::between(&before, &totals, state.distinct_since(ended_epoch));
        // Of an actor these are hosts that answered it, where answers are always seen.
        if activity.distinct.connected_services != 0 {
            self.answers.connected(&totals);
        }
        let activity = if self.sees_answers { activity } else { activity.of_unseen_answers() };
        record.totals = totals.pack();
        record.repeated |= !is_new || activity.counts.total() > 1;
        let mut samples = state.samples;
        for sample in &mut samples {
            let age = ended_epoch.wrapping_add(1).wrapping_sub(sample.epoch);
            if sample.taken == 1 && age > 2 {
                *sample = Sample::default();
            }
        }
        let activity = activity.with_samples(&samples, self.ports);
        let activity = activity.with_crafted(record.crafted(state, &activity, &self.tools, self.list));
        record.history.add(&activity, at, self.settings.horizon);
        Some((Delta { activity, samples }, &record.history))
    }

    /// Takes the state of a source that an earlier agent has read. Its counts until now are not new, and nothing is
    /// remembered of them. There is an exception: if the source did so much from the epoch `unread` on, which no agent
    /// has read, that this looks like a scan, then it stays to be seen as a whole, rather than be missed.
    pub fn resume(&mut self, source: &Address, state: &SourceState, unread: u32) {
        let unseen = state.distinct_since(unread);
        let set = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        let unanswered = set(&unseen.unanswered_services()).max(set(&unseen.unanswered_hosts()));
        if set(&unseen.services).max(set(&unseen.hosts)).max(unanswered) >= LIKE_A_SCAN {
            return;
        }
        let totals = Totals::from(state);
        let repeated = Activity::between(&Totals::default(), &totals, Distinct::EMPTY).counts.total() > 1;
        let mut fingerprints = LastRead::default();
        fingerprints.news(state, &self.tools, 0);
        let record = Record {
            born_ns: state.born_ns,
            totals: totals.pack(),
            repeated,
            fingerprints,
            list: self.list,
            history: History::default(),
        };
        self.records.insert(*source, record);
    }

    /// Forgets sources that were quiet for longer than the horizon. Beyond the limit, it forgets those that showed
    /// least and, among them, those that were quiet longest: a flood of sources that are seen once pushes out no
    /// others. Calls `forget` to remove them from the kernel's table, too. Returns how many were still there.
    ///
    /// One call looks at a part of them, unless there are too many. 64 calls look at all of them.
    ///
    /// # Errors
    /// The error of `forget`. The remaining sources are tried again later.
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
            // One in sixteen leaves, so that a flood does not cause this at each poll.
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

    /// Drops a record, unless the kernel's last state shows that the source has sent a probe just now.
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
        let activity = activity.with_crafted(record.crafted(state, &activity, &self.tools, self.list));
        record.history.add(&activity, at, self.settings.horizon);
        record.totals = totals.pack();
    }

    /// How many sources have a history.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no source has a history.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many histories were dropped because there were too many.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// The greatest of many, at most this many, the greatest first. It never keeps more than that.
pub fn greatest<T: Ord>(of: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    // The least one that is kept is on top.
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
        account::{Around, Unshared, record},
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
            let around = Around { epoch, salt: 1, sees_answers: false, is_overheard: false, is_new: false };
            // SAFETY: an exclusive reference.
            let _news = unsafe {
                record::<Unshared>(state, ProbeClass::Syn.index(), Reach::Closed, &flow, around, || false)
            };
        }
    }

    fn observer(max_sources: u32) -> Observer {
        Observer::new(Settings { max_sources, horizon: 60 * SECOND })
    }

    fn syns(seen: Option<(Delta, &History)>) -> u64 {
        seen.map_or(0, |(delta, _)| delta.activity.counts.of(ProbeClass::Syn))
    }

    /// The sources that are forgotten at this time, if the kernel's table has none of them any more.
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
