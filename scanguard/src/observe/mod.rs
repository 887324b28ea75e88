//! Snapshots of the kernel's counters to deltas, and deltas to a bounded history of each source. Pure.
//!
//! The kernel's table holds totals since a source was inserted. The [`Observer`] remembers the totals it
//! saw last, and what it forgets it has the kernel forget too, so that nothing is ever counted twice.

pub mod activity;
pub mod distinct;
pub mod history;
pub mod sampled;
pub mod settings;

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use scanguard_common::{
    account::{SAMPLES, Sample, SourceState},
    address::Address,
};

use self::{
    activity::{Activity, Totals},
    history::History,
    settings::Settings,
};

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
    totals: Totals,
    /// Whether it sent more than one probe.
    repeated: bool,
    history: History,
}

/// The histories of all sources.
pub struct Observer {
    settings: Settings,
    records: HashMap<Address, Record>,
    evictions: u64,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, records: HashMap::new(), evictions: 0 }
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
                    totals: Totals::default(),
                    repeated: false,
                    history: History::default(),
                };
                (entry.insert(record), true)
            }
        };
        if record.born_ns != state.born_ns {
            record.born_ns = state.born_ns;
            record.totals = Totals::default();
        }
        let totals = Totals::from(state);
        if totals == record.totals {
            return None;
        }
        let activity = Activity::between(&record.totals, &totals, state.distinct_since(ended_epoch));
        record.totals = totals;
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

    /// Forgets sources that were quiet for longer than the horizon, and, beyond the cap, those that showed least and of
    /// them those that were quiet longest: a flood of sources that are seen once pushes out nobody else. Has `forget` take them out of the kernel's table too, and gives how many were still
    /// there.
    ///
    /// # Errors
    /// That of `forget`; the sources that were not reached are tried again next time.
    pub fn expire<E>(
        &mut self,
        at: Duration,
        mut forget: impl FnMut(&Address) -> Result<Option<SourceState>, E>,
    ) -> Result<u64, E> {
        let horizon = self.settings.horizon;
        let old = |record: &Record| at.saturating_sub(record.history.last()) > horizon;
        let mut quiet: Vec<_> =
            self.records.iter().filter(|(_, record)| old(record)).map(|(source, _)| *source).collect();
        let left = self.records.len() - quiet.len();
        let cap = self.settings.max_sources as usize;
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
        let news =
            last.filter(|state| state.born_ns == record.born_ns && Totals::from(*state) != record.totals);
        let Some(state) = news else {
            entry.remove();
            return;
        };
        let totals = Totals::from(state);
        let activity = Activity::between(&record.totals, &totals, state.distinct_since(state.epoch));
        record.history.add(&activity, at, self.settings.horizon);
        record.totals = totals;
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
