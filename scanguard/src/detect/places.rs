//! The places for open findings: which finding gives way when there is no room. Pure.
//!
//! Somebody who forges addresses can fill any number of places. So places go to the findings that are worth most:
//!
//! * A proven finding is worth more than an unproven one. Among proven findings the severity decides, then the
//!   confidence, then how long ago the source was active.
//! * Among unproven findings it counts how long ago the source was active, and then how much it did: both cost a forger
//!   packets. Severity and confidence come last, since a forger chooses them for nothing.
//! * A network has a share of the places. Beyond that, its findings give way to each other.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ipnet::IpNet;
use scanguard_common::address::Address;

use super::{Confidence, Proof, Severity};

/// Times within one such step count as the same time. So nothing is sorted anew with each probe, and forged addresses
/// displace each other only so often.
const STEP: Duration = Duration::from_secs(30);
/// Bits of the networks that have a share of the places, for IPv4: a site and a provider.
const NETWORKS_V4: [u8; 2] = [24, 16];
/// The same for IPv6.
const NETWORKS_V6: [u8; 2] = [48, 32];
/// Their shares: the part of all places.
const SHARES: [usize; 2] = [32, 8];
/// Where there are few places, a network may have this many of them.
const LEAST_SHARE: usize = 16;

/// The worth of a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Worth {
    /// The proof of its evidence.
    pub(super) proof: Proof,
    /// Its severity.
    pub(super) severity: Severity,
    /// Its confidence.
    pub(super) confidence: Confidence,
    /// When its source was last active.
    pub(super) active: Duration,
    /// Its size.
    pub(super) size: u64,
}

/// A worth as numbers that are compared one after the other.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rank([u64; 5]);

impl Worth {
    fn rank(&self) -> Rank {
        let step = self.active.as_secs() / STEP.as_secs();
        let doublings = u64::from(self.size.max(1).ilog2());
        let (severity, confidence) = (self.severity as u64, self.confidence as u64);
        Rank(match self.proof {
            Proof::None => [0, step, doublings, severity, confidence],
            Proof::Connection => [1, severity, confidence, step, doublings],
        })
    }
}

/// The place of a finding: places are sorted by rank, and each has a number of its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    rank: Rank,
    number: u64,
}

/// Whether there is room for a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    /// There is.
    Free,
    /// This one gives way.
    Instead {
        /// Its source.
        source: Address,
        /// Its place.
        place: Place,
        /// The network that has its share of the places; none: all places are taken.
        network: Option<IpNet>,
    },
    /// There is none: all others are worth as much or more.
    None,
}

/// Places and their sources, the least worth first.
type Sorted = BTreeMap<Place, Address>;

/// All places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: Sorted,
    by_network: HashMap<IpNet, Sorted>,
    next: u64,
    /// Whether all sources share all places.
    shared: bool,
}

/// The networks around a source that have a share.
fn networks(source: &Address) -> [IpNet; 2] {
    let ip = source.to_ip();
    let bits = if source.is_v4() { NETWORKS_V4 } else { NETWORKS_V6 };
    bits.map(|bits| IpNet::new(ip, bits).map_or_else(|_| ip.into(), |net| net.trunc()))
}

impl Places {
    /// Without shares of networks: the sources are no addresses.
    pub(super) fn without_shares() -> Self {
        Self { shared: true, ..Self::default() }
    }

    /// The number of places that are taken.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is room for a finding of this source, where there are `most` places.
    pub(super) fn room(&self, source: &Address, worth: &Worth, most: usize) -> Room {
        let give_way = |sorted: &Sorted, network| match sorted.first_key_value() {
            Some((place, source)) if place.rank < worth.rank() => {
                Room::Instead { source: *source, place: *place, network }
            }
            Some(_) | None => Room::None,
        };
        for (network, part) in networks(source).into_iter().zip(SHARES).filter(|_| !self.shared) {
            let share = (most / part).max(LEAST_SHARE);
            if let Some(sorted) = self.by_network.get(&network).filter(|sorted| sorted.len() >= share) {
                return give_way(sorted, Some(network));
            }
        }
        if self.len() < most { Room::Free } else { give_way(&self.all, None) }
    }

    /// Takes a place.
    pub(super) fn take(&mut self, source: Address, worth: &Worth) -> Place {
        let place = Place { rank: worth.rank(), number: self.next };
        self.next += 1;
        self.insert(place, source);
        place
    }

    /// Moves a finding to the place that its worth gives it now.
    pub(super) fn update(&mut self, source: &Address, place: &mut Place, worth: &Worth) {
        let rank = worth.rank();
        if rank != place.rank {
            self.leave(source, *place);
            place.rank = rank;
            self.insert(*place, *source);
        }
    }

    /// Leaves a place.
    pub(super) fn leave(&mut self, source: &Address, place: Place) {
        self.all.remove(&place);
        for network in networks(source) {
            if let Some(sorted) = self.by_network.get_mut(&network) {
                sorted.remove(&place);
                if sorted.is_empty() {
                    self.by_network.remove(&network);
                }
            }
        }
    }

    fn insert(&mut self, place: Place, source: Address) {
        self.all.insert(place, source);
        for network in networks(&source) {
            self.by_network.entry(network).or_default().insert(place, source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    const FORGED: Worth = Worth {
        proof: Proof::None,
        severity: Severity::High,
        confidence: Confidence::Medium,
        active: Duration::from_secs(3_000),
        size: 3,
    };

    #[test]
    fn what_is_worth_more_goes_first() {
        let later = |seconds: u64| Duration::from_secs(3_000 + seconds);
        let proven = Worth { proof: Proof::Connection, ..FORGED };
        let rows = [
            ("active later", FORGED, Worth { active: later(30), severity: Severity::Info, ..FORGED }),
            ("larger, though less severe", FORGED, Worth { size: 9, severity: Severity::Low, ..FORGED }),
            ("more severe, of the same size", Worth { severity: Severity::Low, ..FORGED }, FORGED),
            ("more certain", Worth { confidence: Confidence::Low, ..FORGED }, FORGED),
            ("proven, though idle", Worth { active: later(9_000), size: 1_000, ..FORGED }, proven),
            (
                "proven and more severe, though idle",
                Worth { severity: Severity::Low, active: later(9_000), size: 1_000, ..proven },
                proven,
            ),
            ("proven and active later", proven, Worth { active: later(30), ..proven }),
        ];
        for (name, less, more) in rows {
            assert!(less.rank() < more.rank(), "{name}");
        }
        let same = Worth { active: later(29), size: 2, ..FORGED };
        assert_eq!(FORGED.rank(), same.rank(), "it counts as the same time and size");
    }

    #[test]
    fn the_least_worth_gives_way_and_equals_do_not() {
        let mut places = Places::default();
        let [idle, other, third] = ["192.0.2.1", "198.51.100.1", "203.0.113.1"].map(source);
        let place = places.take(idle, &FORGED);
        let mut moved = places.take(other, &FORGED);
        assert_eq!(places.room(&third, &FORGED, 3), Room::Free);
        assert_eq!(places.room(&third, &FORGED, 2), Room::None);
        let scan = Worth { size: 9, ..FORGED };
        assert_eq!(places.room(&third, &scan, 2), Room::Instead { source: idle, place, network: None });
        places.update(&other, &mut moved, &Worth { size: 1, ..FORGED });
        assert_eq!(
            places.room(&third, &FORGED, 2),
            Room::Instead { source: other, place: moved, network: None }
        );
        places.leave(&other, moved);
        assert_eq!((places.len(), places.by_network.len()), (1, 2));
        places.leave(&idle, place);
        assert!(places.all.is_empty() && places.by_network.is_empty());
    }

    #[test]
    fn a_network_has_its_share_and_no_more() {
        for (name, most, of, around, share) in [
            ("a site", 10_000, "2001:db8:7:{}::1", "2001:db8:7::/48", 312),
            ("a provider", 10_000, "2001:db8:{}::1", "2001:db8::/32", 1_250),
            ("an IPv4 network", 1_000, "198.51.100.{}", "198.51.100.0/24", 31),
            ("few places", 20, "198.51.100.{}", "198.51.100.0/24", 16),
        ] {
            let mut places = Places::default();
            let one = |number: usize| {
                let number = if of.contains(':') { format!("{number:x}") } else { number.to_string() };
                source(&of.replace("{}", &number))
            };
            for number in 0..share {
                assert_eq!(places.room(&one(number), &FORGED, most), Room::Free, "{name}: {number}");
                places.take(one(number), &FORGED);
            }
            assert_eq!(places.room(&one(share), &FORGED, most), Room::None, "{name}");
            let more = Worth { size: 100, ..FORGED };
            let Room::Instead { source, network, .. } = places.room(&one(share), &more, most) else {
                panic!("{name}: nothing gives way");
            };
            assert_eq!((source, network), (one(0), Some(around.parse().unwrap())), "{name}");
            assert_eq!(places.room(&self::source("203.0.113.1"), &FORGED, most), Room::Free, "{name}");
        }
    }

    proptest::proptest! {
        /// Places and networks always agree, no limit is exceeded, and what gives way is worth less than what comes.
        #[test]
        fn no_limit_is_exceeded_and_only_the_less_worthy_give_way(
            steps in proptest::collection::vec((0u8..4, 0u8..40, 0u8..3, 0u64..200, 0u64..20, proptest::bool::ANY), 1..300),
        ) {
            const MOST: usize = 24;
            let mut places = Places::default();
            let mut held: Vec<(Address, Place)> = Vec::new();
            for (network, host, what, second, size, is_proven) in steps {
                let source = source(&format!("198.51.{network}.{host}"));
                let proof = if is_proven { Proof::Connection } else { Proof::None };
                let worth = Worth { proof, active: Duration::from_secs(second), size, ..FORGED };
                match (what, held.len()) {
                    (0, 1..) => {
                        let (source, place) = held.swap_remove(usize::from(host) % held.len());
                        places.leave(&source, place);
                    }
                    (1, 1..) => {
                        let chosen = usize::from(host) % held.len();
                        let (source, place) = &mut held[chosen];
                        places.update(source, place, &worth);
                    }
                    _ => {
                        match places.room(&source, &worth, MOST) {
                            Room::Free => {}
                            Room::Instead { source, place, .. } => {
                                proptest::prop_assert!(place.rank < worth.rank());
                                proptest::prop_assert!(held.contains(&(source, place)));
                                held.retain(|(_, one)| *one != place);
                                places.leave(&source, place);
                            }
                            Room::None => continue,
                        }
                        held.push((source, places.take(source, &worth)));
                    }
                }
                proptest::prop_assert!(places.len() == held.len() && held.len() <= MOST);
                for (around, sorted) in &places.by_network {
                    let inside = held.iter().filter(|(source, _)| around.contains(&source.to_ip())).count();
                    proptest::prop_assert_eq!(sorted.len(), inside);
                    proptest::prop_assert!(inside <= LEAST_SHARE);
                }
            }
        }
    }
}
