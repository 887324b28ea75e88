//! Which of the things that this host sees it tells the fleet. Pure: time is passed in.
//!
//! A thing is told once in some hours. What a source missed comes first; what it met says that it is a client, and comes
//! as far as there is room.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use ipnet::IpNet;

use super::wire::{Asked, Fate, Place, Sighting};
use crate::observe::seen::{Met, Seen};

/// Sightings a second.
const RATE: f64 = 200.0;
/// How many of them are left to what sources missed.
const FOR_MISSES: f64 = 100.0;
/// A thing is told again after one to two times this.
const AGAIN: Duration = Duration::from_secs(3 * 60 * 60);
/// How many things are remembered, in each of two generations.
const MAX_TOLD: usize = 65_536;
/// How many places of services are told in a generation.
const MAX_PLACES: usize = 512;

/// Why something is not told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeftOut {
    /// There were too many in this second.
    Rate,
    /// This host is flooded: the sources are mostly forged.
    Flood,
}

/// What is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chosen {
    /// A sighting, unless it was told already.
    pub(super) sighting: Option<Sighting>,
    /// Services that were there, and were not told lately.
    pub(super) open: Vec<Place>,
}

/// Chooses.
pub(super) struct Selector {
    hasher: RandomState,
    /// This generation and the one before, as hashes.
    told: [HashSet<u64>; 2],
    places: [HashSet<Place>; 2],
    turned: Duration,
    tokens: f64,
    filled: Duration,
}

impl Selector {
    pub(super) fn new(at: Duration) -> Self {
        Self {
            hasher: RandomState::new(),
            told: Default::default(),
            places: Default::default(),
            turned: at,
            tokens: RATE,
            filled: at,
        }
    }

    /// Whether everything is to be told anew, because a generation has ended.
    fn turn(&mut self, at: Duration) {
        if at.saturating_sub(self.turned) >= AGAIN || self.told[0].len() >= MAX_TOLD {
            self.turned = at;
            self.told[1] = std::mem::take(&mut self.told[0]);
            self.places[1] = std::mem::take(&mut self.places[0]);
        }
    }

    fn is_told(&self, key: u64) -> bool {
        self.told.iter().any(|told| told.contains(&key))
    }

    /// What to tell of something that was seen of a source. `proven`: a rule found it on evidence that nobody can forge.
    ///
    /// # Errors
    /// It is news, and is left out.
    pub(super) fn choose(
        &mut self,
        seen: &Seen,
        source: IpNet,
        proven: bool,
        tool: Option<&str>,
        flooded: bool,
        at: Duration,
    ) -> Result<Chosen, LeftOut> {
        self.turn(at);
        let items = seen.items.iter().map(|item| {
            let (protocol, port) = (item.service.protocol, item.service.port);
            Asked(item.host.to_ip(), protocol, port, Fate(Some(item.met)))
        });
        let (missed, met): (Vec<_>, Vec<_>) = items.partition(|item| item.3 != Fate(Some(Met::Open)));
        let mut keys: Vec<u64> = missed.iter().map(|item| self.hasher.hash_one((source, item))).collect();
        if proven {
            keys.push(self.hasher.hash_one((source, "proven")));
        }
        keys.retain(|key| !self.is_told(*key));
        let is_urgent = !keys.is_empty();
        if !met.is_empty() {
            let key = self.hasher.hash_one((source, "met"));
            if !self.is_told(key) {
                keys.push(key);
            }
        }
        let open: Vec<_> = met.iter().map(Asked::place).filter(|place| self.is_new(place)).collect();
        let mut chosen = Chosen { sighting: None, open };
        if !keys.is_empty() {
            if flooded && !proven {
                return Err(LeftOut::Flood);
            }
            let filled = at.saturating_sub(std::mem::replace(&mut self.filled, at)).as_secs_f64();
            self.tokens = (self.tokens + filled * RATE).min(RATE);
            if self.tokens < if is_urgent { 1.0 } else { FOR_MISSES } {
                return Err(LeftOut::Rate);
            }
            self.tokens -= 1.0;
            self.told[0].extend(keys);
            chosen.sighting = Some(Sighting {
                source,
                age: 0,
                class: seen.class.map_or(String::new(), |class| class.label().to_owned()),
                items: missed.into_iter().chain(met).take(super::wire::MAX_ITEMS).collect(),
                completed: seen.completed,
                proven,
                tool: tool.unwrap_or_default().chars().take(32).collect(),
            });
        }
        self.places[0].extend(chosen.open.iter().copied());
        Ok(chosen)
    }

    fn is_new(&self, place: &Place) -> bool {
        self.places[0].len() < MAX_PLACES && !self.places.iter().any(|told| told.contains(place))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use scanguard_common::outcome::{ProbeClass, Service};

    use super::*;
    use crate::observe::seen::Item;

    fn source(number: u32) -> IpNet {
        IpNet::new(Ipv4Addr::from(0xcb00_7100 + number).into(), 32).unwrap()
    }

    fn seen(number: u32, port: u16, met: Met) -> Seen {
        let service = Service { protocol: 6, port };
        let host = Ipv4Addr::new(192, 0, 2, 1).into();
        Seen {
            source: source(number).addr().into(),
            class: Some(ProbeClass::Syn),
            items: vec![Item { host, service, met }],
            completed: false,
            tools: 0,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_thing_is_told_once_in_some_hours() {
        let mut selector = Selector::new(seconds(0));
        let mut tell = |met, proven, at| {
            let chosen = selector.choose(&seen(1, 23, met), source(1), proven, None, false, seconds(at));
            chosen.unwrap().sighting.is_some()
        };
        assert!(tell(Met::Closed, false, 1) && !tell(Met::Closed, false, 2));
        assert!(tell(Met::Open, false, 3) && !tell(Met::Open, false, 4));
        assert!(tell(Met::Closed, true, 5) && !tell(Met::Closed, true, 6));
        assert!(!tell(Met::Closed, false, 4 * 60 * 60), "it is in the generation before");
        assert!(tell(Met::Closed, false, 8 * 60 * 60));
    }

    #[test]
    fn misses_come_before_what_was_met_and_never_more_than_two_hundred_a_second() {
        let mut selector = Selector::new(seconds(0));
        let mut count = |met, first: u32| {
            let told = (first..first + 1_000).map(|number| {
                selector.choose(&seen(number, 23, met), source(number), false, None, false, seconds(9))
            });
            told.filter(|told| matches!(told, Ok(Chosen { sighting: Some(_), .. }))).count()
        };
        assert_eq!(count(Met::Open, 0), 101);
        assert_eq!(count(Met::Closed, 2_000), 99);
        assert_eq!(count(Met::Closed, 4_000), 0);
    }

    #[test]
    fn a_flood_is_not_told_but_what_is_proven_is() {
        let mut selector = Selector::new(seconds(0));
        let mut tell = |proven| {
            selector.choose(&seen(1, 23, Met::Closed), source(1), proven, None, true, seconds(1)).map(drop)
        };
        assert_eq!(tell(false), Err(LeftOut::Flood));
        assert_eq!(tell(true), Ok(()));
    }

    #[test]
    fn services_are_told_once_whoever_met_them() {
        let mut selector = Selector::new(seconds(0));
        let mut open = |number| {
            let seen = seen(number, 443, Met::Open);
            selector.choose(&seen, source(number), false, None, false, seconds(1)).unwrap().open.len()
        };
        assert_eq!([open(1), open(2), open(3)], [1, 0, 0]);
    }
}
