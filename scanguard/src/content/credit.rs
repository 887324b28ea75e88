//! Sources that have used this host for long. They are less likely to look for what is here.
//!
//! A source earns this by use: it found more than it missed in several distinct hours, over a day or more. Or it logged
//! in: this server refused it without credentials, and let it in with them.

use std::{collections::HashMap, time::Duration};

use scanguard_common::address::Address;

/// Hours in which a source found more than it missed.
const HOURS: u16 = 3;
/// The time from the first to the last of them, at least.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);
/// After this time of quiet, it is a stranger again.
const FORGOTTEN: Duration = Duration::from_secs(8 * 24 * 60 * 60);
const HOUR: u64 = 60 * 60;

/// One source.
#[derive(Clone, Copy, Debug)]
struct Credit {
    first: Duration,
    last: Duration,
    /// Distinct hours.
    hours: u16,
    has_logged_in: bool,
}

/// All sources that found something here, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Credits {
    by_source: HashMap<Address, Credit>,
    swept: Duration,
}

impl Credits {
    /// A source found something, and more than it missed. `most` is how many sources are remembered.
    pub(super) fn earn(&mut self, source: Address, has_logged_in: bool, at: Duration, most: usize) {
        if self.by_source.len() >= most && !self.by_source.contains_key(&source) {
            self.evict(most);
        }
        let hour = |time: Duration| time.as_secs() / HOUR;
        let new = Credit { first: at, last: at, hours: 1, has_logged_in: false };
        let credit = self.by_source.entry(source).or_insert(new);
        if at.saturating_sub(credit.last) >= FORGOTTEN {
            *credit = new;
        }
        credit.hours = credit.hours.saturating_add(u16::from(hour(at) != hour(credit.last)));
        credit.last = at;
        credit.has_logged_in |= has_logged_in;
    }

    /// Whether a source has used this host for long.
    pub(super) fn is_regular(&self, source: &Address, at: Duration) -> bool {
        self.by_source.get(source).is_some_and(|credit| {
            let Credit { first, last, hours, has_logged_in } = *credit;
            let is_old = hours >= HOURS && last.saturating_sub(first) >= SPAN;
            (is_old || has_logged_in) && at.saturating_sub(last) < FORGOTTEN
        })
    }

    /// Forgets sources that were quiet for long.
    pub(super) fn expire(&mut self, at: Duration) {
        if at.saturating_sub(self.swept) >= FORGOTTEN / 64 {
            self.swept = at;
            self.by_source.retain(|_, credit| at.saturating_sub(credit.last) < FORGOTTEN);
        }
    }

    /// Forgets one in sixteen: those with the fewest hours, and of these those that were quiet longest. So new sources
    /// push out no old ones.
    fn evict(&mut self, most: usize) {
        let mut ranks: Vec<_> = self
            .by_source
            .iter()
            .map(|(key, credit)| (credit.has_logged_in, credit.hours, credit.last, *key))
            .collect();
        let excess = (ranks.len() + 1).saturating_sub(most - most / 16).clamp(1, ranks.len());
        ranks.select_nth_unstable(excess - 1);
        for (.., key) in ranks.into_iter().take(excess) {
            self.by_source.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(number: u32) -> Address {
        Ipv4Addr::from(number).into()
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * HOUR)
    }

    #[test]
    fn several_hours_over_a_day_or_a_login_make_a_regular() {
        let after = |times: &[u64]| {
            let mut credits = Credits::default();
            times.iter().for_each(|time| credits.earn(source(1), false, hours(*time), 100));
            credits.is_regular(&source(1), hours(*times.last().unwrap()))
        };
        assert!(after(&[0, 24, 48]) && after(&[5, 6, 29]) && after(&[0, 3, 190, 191]));
        assert!(
            !after(&[0]) && !after(&[0, 1, 2, 3, 4, 5, 23]) && !after(&[0, 24]) && !after(&[7, 7, 7, 7, 31])
        );
        assert!(!after(&[0, 24, 48, 48 + 8 * 24]), "it was quiet for eight days");
        let mut credits = Credits::default();
        credits.earn(source(1), true, hours(0), 100);
        assert!(credits.is_regular(&source(1), hours(1)) && !credits.is_regular(&source(2), hours(1)));
        assert!(!credits.is_regular(&source(1), hours(8 * 24)));
        credits.expire(hours(8 * 24));
        assert!(credits.by_source.is_empty());
    }

    #[test]
    fn sources_are_bounded_and_new_ones_push_out_no_regulars() {
        let mut credits = Credits::default();
        for time in [0, 24, 48] {
            credits.earn(source(1), false, hours(time), 64);
        }
        for number in 2..10_000 {
            credits.earn(source(number), false, hours(49), 64);
            assert!(credits.by_source.len() <= 64);
        }
        assert!(credits.is_regular(&source(1), hours(50)));
    }
}
