//! The circuit breaker: it limits in how many networks rules ban within one minute. If rules would ban half the world, a
//! mistake or forged addresses are more likely than half the world scanning.
//!
//! Networks are counted, not bans: one customer has many addresses, and they are in one network. An open breaker refuses
//! new bans by rules, and changes nothing else. It closes by itself when the storm is over.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ipnet::IpNet;

use super::covering::counted_as;

/// The time over which networks are counted. An open breaker stays open for at least this long.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The networks in which rules asked for bans within the last minute: at most as many as are allowed in a minute.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// When rules asked for a ban in each network last.
    asked: HashMap<IpNet, Duration>,
    /// The same, sorted by time.
    by_time: BTreeSet<(Duration, IpNet)>,
    open: Option<Open>,
}

/// The storm.
#[derive(Clone, Copy, Debug)]
struct Open {
    since: Duration,
    /// Bans that were refused.
    refused: u64,
}

/// Whether something happened within the last minute. A time after `at` comes from a clock that was set back.
fn is_recent(then: Duration, at: Duration) -> bool {
    at.abs_diff(then) < WINDOW
}

impl Breaker {
    /// Networks in which rules banned, or asked for a ban, within the last minute.
    pub fn networks(&self, at: Duration) -> u32 {
        let recent = self.asked.values().filter(|asked| is_recent(**asked, at)).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Whether a ban of `net` is refused: the breaker is open, or this is one network too many.
    pub fn refuses(&self, net: IpNet, at: Duration, max: u32) -> bool {
        if self.is_open() {
            return true;
        }
        let is_counted = self.asked.get(&counted_as(net)).is_some_and(|asked| is_recent(*asked, at));
        // A number that has room needs no closer look.
        let has_room = self.asked.len() < max as usize;
        !is_counted && !has_room && self.networks(at) >= max
    }

    /// Records a ban.
    pub fn made(&mut self, net: IpNet, at: Duration, max: u32) {
        let network = counted_as(net);
        if let Some(before) = self.asked.insert(network, at) {
            self.by_time.remove(&(before, network));
        }
        self.by_time.insert((at, network));
        // Times after `at` are at the end.
        while let Some((asked, network)) = self.by_time.last().copied()
            && !is_recent(asked, at)
        {
            self.forget(asked, network);
        }
        while let Some((asked, network)) = self.by_time.first().copied()
            && (self.asked.len() > max as usize || !is_recent(asked, at))
        {
            self.forget(asked, network);
        }
    }

    fn forget(&mut self, asked: Duration, network: IpNet) {
        self.by_time.remove(&(asked, network));
        self.asked.remove(&network);
    }

    /// Records a refused ban, and opens the breaker. Returns whether it was closed before.
    pub fn refused(&mut self, net: IpNet, at: Duration, max: u32) -> bool {
        self.made(net, at, max);
        let is_news = !self.is_open();
        self.open.get_or_insert(Open { since: at, refused: 0 }).refused += 1;
        is_news
    }

    /// Closes the breaker if the storm is over: it has been open for a minute, and within the last minute rules asked
    /// for bans in no more than half of `max` networks. Returns the number of refused bans if it closes.
    pub fn close_if_calm(&mut self, at: Duration, max: u32) -> Option<u64> {
        let Open { since, refused } = self.open?;
        if is_recent(since, at) || self.networks(at) > max.div_ceil(2) {
            return None;
        }
        self.open = None;
        Some(refused)
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Starts counting again, because a user set the mode.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::net, *};

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// One address in each of these networks.
    fn host(network: u8) -> IpNet {
        net(&format!("198.51.{network}.7/32"))
    }

    /// A breaker that a storm has opened at this second: one network more than `max`.
    fn opened(second: u64, max: u32) -> Breaker {
        let mut breaker = Breaker::default();
        for network in 0..u8::try_from(max).unwrap() {
            breaker.made(host(network), at(second), max);
        }
        assert!(breaker.refuses(host(255), at(second), max));
        assert!(breaker.refused(host(255), at(second), max));
        breaker
    }

    #[test]
    fn bans_in_so_many_networks_are_made_within_any_minute_and_no_more_are_remembered() {
        let mut breaker = Breaker::default();
        for second in 0..3 {
            let network = host(u8::try_from(second).unwrap());
            assert!(!breaker.refuses(network, at(second), 3));
            breaker.made(network, at(second), 3);
        }
        assert!(breaker.refuses(host(3), at(59), 3) && breaker.networks(at(59)) == 3);
        assert!(!breaker.refuses(host(2), at(59), 3), "one more in a network that is counted");
        assert!(!breaker.refuses(host(3), at(60), 3) && breaker.networks(at(60)) == 2);
        breaker.made(host(3), at(60), 3);
        assert_eq!((breaker.asked.len(), breaker.by_time.len()), (3, 3));
    }

    #[test]
    fn a_thousand_prefixes_of_one_site_are_one_network() {
        let mut breaker = Breaker::default();
        for subnet in 0..1_000 {
            let subnet = net(&format!("2001:db8:1:{subnet:x}::/64"));
            assert!(!breaker.refuses(subnet, at(0), 1));
            breaker.made(subnet, at(0), 1);
        }
        assert_eq!((breaker.networks(at(0)), breaker.asked.len()), (1, 1));
        assert!(breaker.refuses(net("2001:db8:2::/64"), at(0), 1));
    }

    #[test]
    fn an_open_breaker_closes_a_minute_after_the_storm() {
        let mut breaker = opened(0, 4);
        assert!(!breaker.refused(host(254), at(30), 4), "it is open already");
        assert!(breaker.refuses(host(0), at(31), 4), "also in networks that are counted");
        // Two networks go on asking: that is half.
        for second in 31..=59 {
            breaker.refused(host(254), at(second), 4);
            breaker.refused(host(255), at(second), 4);
            assert_eq!(breaker.close_if_calm(at(second), 4), None, "second {second}");
        }
        assert_eq!(breaker.close_if_calm(at(60), 4), Some(60));
        assert!(!breaker.is_open() && !breaker.refuses(host(255), at(60), 4));
        assert_eq!(breaker.close_if_calm(at(61), 4), None, "it is closed");
    }

    #[test]
    fn it_stays_open_for_as_long_as_the_storm_lasts() {
        let mut breaker = opened(0, 4);
        for second in 1..=600 {
            for network in 0..100 {
                breaker.refused(host(network), at(second), 4);
            }
            assert_eq!(breaker.close_if_calm(at(second), 4), None, "second {second}");
            assert!(breaker.asked.len() <= 4 && breaker.by_time.len() <= 4);
        }
        assert!(breaker.close_if_calm(at(660), 4).is_some());
    }

    #[test]
    fn where_one_network_is_the_limit_one_that_goes_on_does_not_keep_it_open() {
        let mut breaker = opened(0, 1);
        for second in 1..60 {
            breaker.refused(host(255), at(second), 1);
        }
        assert!(breaker.close_if_calm(at(60), 1).is_some());
    }

    #[test]
    fn a_clock_that_jumps_over_the_storm_ends_it() {
        assert!(opened(1_000, 4).close_if_calm(at(1_000_000), 4).is_some());
        assert!(opened(1_000, 4).close_if_calm(at(0), 4).is_some());
        let mut breaker = opened(1_000, 4);
        breaker.made(host(9), at(0), 4);
        assert_eq!(breaker.networks(at(0)), 1);
        assert_eq!(breaker.networks(Duration::MAX), 0);
    }

    #[test]
    fn who_sets_the_mode_starts_again() {
        let mut breaker = opened(0, 4);
        breaker.reset();
        assert!(!breaker.is_open() && breaker.networks(at(0)) == 0);
    }
}
