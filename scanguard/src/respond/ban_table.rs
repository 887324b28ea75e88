//! The table of bans and shields: their networks, start, reason, and earlier bans. Bounded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{allow::around, cause::Origin, covering::counted_as};
use crate::{clock::Now, sensor::gate::Extent};

/// A ban or shield.
#[derive(Clone, Debug, PartialEq)]
pub struct Ban {
    /// The network that is banned or shielded from.
    pub net: IpNet,
    /// A ban or a shield.
    pub extent: Extent,
    /// The origin of the ban.
    pub origin: Origin,
    /// The reason, in words.
    pub reason: String,
    /// The start.
    pub since: Timestamp,
    /// The end, by the monotonic clock; none: until it is taken back.
    pub ends: Option<Duration>,
    /// How often rules banned the source before, without forgiven bans.
    pub level: u32,
    /// It was made in dry run and never drops anything.
    pub dry: bool,
}

impl Ban {
    /// The remaining time; none: it does not end.
    pub fn left(&self, at: Duration) -> Option<Duration> {
        self.ends.map(|ends| ends.saturating_sub(at))
    }
}

/// A ban that is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Past {
    /// Its level.
    pub level: u32,
    /// When it ended.
    pub ended: Timestamp,
    /// As [`Ban::dry`].
    pub dry: bool,
}

impl Past {
    /// The level that is left after good behaviour: one less for each `forgive` that has passed. None: everything is
    /// forgiven.
    pub fn level(&self, forgive: Duration, wall: Timestamp) -> Option<u32> {
        let quiet = Duration::try_from(wall.duration_since(self.ended)).unwrap_or_default();
        let forgiven = quiet.as_nanos() / forgive.as_nanos().max(1);
        self.level.checked_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// All bans and shields, and past bans that are not forgiven. A network has at most one ban or shield.
#[derive(Clone, Debug, Default)]
pub struct BanTable {
    bans: BTreeMap<IpNet, Ban>,
    /// The number of shields.
    shields: usize,
    /// Bans with an end, sorted by their end.
    ends: BTreeSet<(Duration, IpNet)>,
    /// The same for shields.
    shield_ends: BTreeSet<(Duration, IpNet)>,
    /// Bans and shields by rules within each network (see [`counted_as`]), sorted by their end.
    by_network: BTreeMap<(Extent, IpNet), BTreeSet<(Duration, IpNet)>>,
    past: HashMap<IpNet, Past>,
    /// The same, sorted by their end.
    past_by_end: BTreeSet<(Timestamp, IpNet)>,
}

impl BanTable {
    /// The number of bans of this kind.
    pub fn len(&self, extent: Extent) -> usize {
        match extent {
            Extent::Full => self.bans.len() - self.shields,
            Extent::Shield => self.shields,
        }
    }

    /// Whether the table has neither bans nor shields.
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// All bans and shields, by network.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    /// Past bans.
    pub fn past(&self) -> impl Iterator<Item = (IpNet, &Past)> {
        self.past.iter().map(|(net, past)| (*net, past))
    }

    /// The ban or shield of exactly this network.
    pub fn get(&self, net: IpNet) -> Option<&Ban> {
        self.bans.get(&net)
    }

    /// The ban of exactly this network; shields do not count.
    pub fn banned(&self, net: IpNet) -> Option<&Ban> {
        self.get(net).filter(|ban| ban.extent == Extent::Full)
    }

    /// The narrowest ban of this network or of one around it; if there is none, the narrowest shield.
    pub fn covering(&self, net: IpNet) -> Option<&Ban> {
        let banned = around(net).find_map(|around| self.banned(around));
        banned.or_else(|| around(net).find_map(|around| self.get(around)))
    }

    /// The record of earlier bans of this network.
    pub fn before(&self, net: IpNet) -> Option<&Past> {
        self.past.get(&net)
    }

    /// The ban of this kind to drop if there is no room: among those not made by hand, the one that ends first.
    pub fn victim(&self, extent: Extent) -> Option<IpNet> {
        let by_hand = |net: &IpNet| match self.bans.get(net).map(|ban| &ban.origin) {
            Some(Origin::Hand { .. }) | None => true,
            Some(
                Origin::Rule { .. }
                | Origin::Feed { .. }
                | Origin::Crowdsec { .. }
                | Origin::Fleet { .. }
                | Origin::Adopted,
            ) => false,
        };
        let ends = match extent {
            Extent::Full => &self.ends,
            Extent::Shield => &self.shield_ends,
        };
        ends.iter().map(|(_, net)| *net).find(|net| !by_hand(net))
    }

    /// The ban of this kind to drop if rules have made `share` of them in the network around `net` already: the one
    /// there that ends first.
    pub fn crowded(&self, net: IpNet, extent: Extent, share: usize) -> Option<IpNet> {
        let beside = self.by_network.get(&(extent, counted_as(net)))?;
        if beside.len() < share { None } else { beside.first().map(|(_, net)| *net) }
    }

    fn ends_mut(&mut self, extent: Extent) -> &mut BTreeSet<(Duration, IpNet)> {
        match extent {
            Extent::Full => &mut self.ends,
            Extent::Shield => &mut self.shield_ends,
        }
    }

    /// Inserts a ban or shield. Returns the one of the same network that it replaces.
    pub fn insert(&mut self, ban: Ban) -> Option<Ban> {
        let before = self.remove(ban.net);
        if let Some(ends) = ban.ends {
            self.ends_mut(ban.extent).insert((ends, ban.net));
            if is_by_rule(&ban) {
                self.by_network.entry((ban.extent, counted_as(ban.net))).or_default().insert((ends, ban.net));
            }
        }
        self.shields += usize::from(ban.extent == Extent::Shield);
        self.bans.insert(ban.net, ban);
        before
    }

    /// Removes a ban or shield without a trace.
    pub fn remove(&mut self, net: IpNet) -> Option<Ban> {
        let ban = self.bans.remove(&net)?;
        if let Some(ends) = ban.ends {
            self.ends_mut(ban.extent).remove(&(ends, net));
            let network = (ban.extent, counted_as(net));
            if let Some(beside) = self.by_network.get_mut(&network) {
                beside.remove(&(ends, net));
                if beside.is_empty() {
                    self.by_network.remove(&network);
                }
            }
        }
        self.shields -= usize::from(ban.extent == Extent::Shield);
        Some(ban)
    }

    /// Removes ended bans and shields, and remembers at most `most` past bans. Shields are not remembered, since
    /// another source may have caused them.
    pub fn expire(&mut self, now: Now, most: usize) -> Vec<Ban> {
        let mut ended = Vec::new();
        for extent in Extent::ALL {
            while let Some((ends, net)) = self.ends_mut(extent).first().copied()
                && ends <= now.at
            {
                self.ends_mut(extent).remove(&(ends, net));
                ended.extend(self.remove(net));
            }
        }
        let banned = |ban: &&Ban| ban.extent == Extent::Full && !ban.origin.is_order();
        for ban in ended.iter().filter(banned) {
            let past = Past { level: ban.level, ended: now.wall, dry: ban.dry };
            self.remember(ban.net, past, most);
        }
        ended
    }

    /// Remembers a past ban. Beyond `most`, the one that ended first is forgotten.
    pub fn remember(&mut self, net: IpNet, past: Past, most: usize) {
        if let Some(old) = self.past.insert(net, past) {
            self.past_by_end.remove(&(old.ended, net));
        }
        self.past_by_end.insert((past.ended, net));
        while self.past.len() > most {
            let Some((_, oldest)) = self.past_by_end.pop_first() else {
                return;
            };
            self.past.remove(&oldest);
        }
    }

    /// Forgets past bans that are forgiven.
    pub fn forgive(&mut self, forgive: Duration, wall: Timestamp) {
        let Self { past, past_by_end, .. } = self;
        // No ban that ended more recently is forgiven.
        let recent = SignedDuration::try_from(forgive).ok().and_then(|span| wall.checked_sub(span).ok());
        let candidates =
            past_by_end.iter().take_while(|(ended, _)| recent.is_none_or(|recent| *ended <= recent));
        let forgiven: Vec<_> = candidates
            .filter(|(_, net)| past.get(net).is_none_or(|past| past.level(forgive, wall).is_none()))
            .copied()
            .collect();
        for entry in forgiven {
            past_by_end.remove(&entry);
            past.remove(&entry.1);
        }
    }

    /// Removes bans that were made in dry run, and forgets them.
    pub fn remove_dry(&mut self) -> Vec<Ban> {
        let dry: Vec<_> = self.bans.values().filter(|ban| ban.dry).map(|ban| ban.net).collect();
        self.past.retain(|_, past| !past.dry);
        let Self { past, past_by_end, .. } = self;
        past_by_end.retain(|(_, net)| past.contains_key(net));
        dry.into_iter().filter_map(|net| self.remove(net)).collect()
    }
}

/// Whether a rule made a ban, and not a user or another host.
fn is_by_rule(ban: &Ban) -> bool {
    match ban.origin {
        Origin::Rule { .. } => true,
        Origin::Hand { .. }
        | Origin::Feed { .. }
        | Origin::Crowdsec { .. }
        | Origin::Fleet { .. }
        | Origin::Adopted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn ban(text: &str, ends: Option<u64>, origin: Origin, dry: bool) -> Ban {
        Ban {
            net: net(text),
            extent: Extent::Full,
            origin,
            reason: String::new(),
            since: Timestamp::UNIX_EPOCH,
            ends: ends.map(Duration::from_secs),
            level: 1,
            dry,
        }
    }

    fn rule() -> Origin {
        Origin::Rule { rule: "r".to_owned(), finding: "f".to_owned() }
    }

    #[test]
    fn what_ends_is_taken_out_and_remembered_within_a_bound() {
        let mut ban_table = BanTable::default();
        for host in 1..=5 {
            ban_table.insert(ban(&format!("192.0.2.{host}/32"), Some(host), rule(), false));
        }
        ban_table.insert(ban("192.0.2.9/32", Some(1), Origin::Hand { uid: 0 }, false));
        ban_table.insert(ban("192.0.2.10/32", None, rule(), false));
        assert_eq!(ban_table.expire(now(4), 3).len(), 5);
        assert_eq!((ban_table.len(Extent::Full), ban_table.past().count()), (2, 3));
        assert!(ban_table.before(net("192.0.2.9/32")).is_none(), "what was ordered is not held against it");
        assert!(ban_table.before(net("192.0.2.1/32")).is_none(), "the oldest is forgotten");
    }

    #[test]
    fn good_behaviour_is_forgiven_level_by_level() {
        let past = Past { level: 1, ended: now(0).wall, dry: false };
        let hour = Duration::from_secs(3_600);
        for (after, level) in [(0, Some(1)), (3_599, Some(1)), (3_600, Some(0)), (7_200, None)] {
            assert_eq!(past.level(hour, now(after).wall), level, "after {after} s");
        }
        let mut ban_table = BanTable::default();
        ban_table.remember(net("192.0.2.1/32"), past, 9);
        ban_table.forgive(hour, now(7_199).wall);
        assert_eq!(ban_table.past().count(), 1);
        ban_table.forgive(hour, now(7_200).wall);
        assert_eq!((ban_table.past().count(), ban_table.past_by_end.len()), (0, 0));
    }

    #[test]
    fn the_victim_is_whoever_is_free_soonest_but_for_those_banned_by_hand() {
        let mut ban_table = BanTable::default();
        assert_eq!(ban_table.victim(Extent::Full), None);
        ban_table.insert(ban("192.0.2.1/32", Some(1), Origin::Hand { uid: 0 }, false));
        ban_table.insert(ban("192.0.2.2/32", Some(9), rule(), false));
        ban_table.insert(ban("192.0.2.3/32", Some(5), rule(), false));
        assert_eq!(ban_table.victim(Extent::Full), Some(net("192.0.2.3/32")));
        assert_eq!(ban_table.victim(Extent::Shield), None);
    }

    #[test]
    fn the_narrowest_ban_around_an_address_is_found() {
        let mut ban_table = BanTable::default();
        ban_table.insert(ban("192.0.0.0/16", None, rule(), false));
        ban_table.insert(ban("192.0.2.0/24", None, rule(), false));
        let found = |text| ban_table.covering(net(text)).map(|ban| ban.net.to_string());
        assert_eq!(found("192.0.2.1/32").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(found("192.0.3.1/32").as_deref(), Some("192.0.0.0/16"));
        assert_eq!(found("192.1.0.1/32"), None);
        assert_eq!(found("2001:db8::1/128"), None);
    }

    #[test]
    fn nothing_is_left_of_a_dry_run() {
        let mut ban_table = BanTable::default();
        ban_table.insert(ban("192.0.2.1/32", Some(1), rule(), true));
        ban_table.insert(ban("192.0.2.2/32", Some(9), rule(), false));
        ban_table.insert(ban("192.0.2.3/32", Some(9), rule(), true));
        ban_table.expire(now(2), 9);
        assert_eq!(ban_table.remove_dry().len(), 1);
        let left = (
            ban_table.len(Extent::Full),
            ban_table.past().count(),
            ban_table.ends.len(),
            ban_table.past_by_end.len(),
        );
        assert_eq!(left, (1, 0, 1, 0));
    }

    #[test]
    fn a_network_with_its_share_gives_up_the_ban_of_its_own_that_ends_first() {
        let mut ban_table = BanTable::default();
        let crowded = |ban_table: &BanTable, text| {
            ban_table.crowded(net(text), Extent::Full, 2).map(|net| net.to_string())
        };
        ban_table.insert(ban("192.0.2.1/32", Some(9), rule(), false));
        ban_table.insert(ban("192.0.2.2/32", Some(5), Origin::Hand { uid: 0 }, false));
        ban_table.insert(ban("192.0.2.3/32", None, rule(), false));
        ban_table.insert(shield("192.0.2.4/32", 1));
        assert_eq!(crowded(&ban_table, "192.0.2.9/32"), None, "one of them is by a rule and has an end");
        ban_table.insert(ban("192.0.2.5/32", Some(7), rule(), false));
        assert_eq!(crowded(&ban_table, "192.0.2.9/32").as_deref(), Some("192.0.2.5/32"));
        assert_eq!(crowded(&ban_table, "192.0.3.9/32"), None);
        ban_table.expire(now(8), 9);
        assert_eq!(crowded(&ban_table, "192.0.2.9/32"), None);
        ban_table.expire(now(9), 9);
        assert!(ban_table.by_network.is_empty());
    }

    fn shield(text: &str, ends: u64) -> Ban {
        Ban { extent: Extent::Shield, ..ban(text, Some(ends), rule(), false) }
    }

    #[test]
    fn shields_and_bans_are_counted_apart_and_neither_goes_for_the_other() {
        let mut ban_table = BanTable::default();
        ban_table.insert(shield("192.0.2.1/32", 1));
        ban_table.insert(shield("192.0.2.2/32", 2));
        ban_table.insert(ban("192.0.2.3/32", Some(9), rule(), false));
        let counts = |ban_table: &BanTable| (ban_table.len(Extent::Full), ban_table.len(Extent::Shield));
        assert_eq!(counts(&ban_table), (1, 2));
        assert_eq!(ban_table.victim(Extent::Full), Some(net("192.0.2.3/32")));
        assert_eq!(ban_table.victim(Extent::Shield), Some(net("192.0.2.1/32")));
        let before = ban_table.insert(ban("192.0.2.1/32", Some(5), rule(), false));
        assert_eq!(before.map(|ban| ban.extent), Some(Extent::Shield));
        assert_eq!(
            (counts(&ban_table), ban_table.victim(Extent::Shield)),
            ((2, 1), Some(net("192.0.2.2/32")))
        );
        assert_eq!(ban_table.expire(now(9), 9).len(), 3);
        assert_eq!(
            (counts(&ban_table), ban_table.past().count()),
            ((0, 0), 2),
            "a shield makes nobody's ban longer"
        );
        assert!(ban_table.is_empty() && ban_table.ends.is_empty() && ban_table.shield_ends.is_empty());
    }

    #[test]
    fn a_shield_hides_no_ban_around_it() {
        let mut ban_table = BanTable::default();
        ban_table.insert(shield("192.0.2.1/32", 9));
        let found =
            |ban_table: &BanTable| ban_table.covering(net("192.0.2.1/32")).map(|ban| ban.net.to_string());
        assert_eq!(found(&ban_table).as_deref(), Some("192.0.2.1/32"));
        ban_table.insert(ban("192.0.0.0/16", None, rule(), false));
        assert_eq!(found(&ban_table).as_deref(), Some("192.0.0.0/16"));
        assert!(
            ban_table.banned(net("192.0.2.1/32")).is_none() && ban_table.get(net("192.0.2.1/32")).is_some()
        );
    }
}
