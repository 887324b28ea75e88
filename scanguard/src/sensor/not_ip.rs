//! Notices if most of what comes cannot be IP: then an interface is watched whose packets the program cannot read.

use std::time::Duration;

/// How long one look lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// On a quiet link, ARP may be most of all. Fewer packets in a window are no reason to complain: 50 in a second.
const LEAST: u64 = 3_000;

/// The share of packets that are not IP.
#[derive(Debug, Default)]
pub struct NotIp {
    /// When the window began, with all packets and those that are not IP until then.
    began: Option<(Duration, u64, u64)>,
    is_most: bool,
}

impl NotIp {
    /// Takes the totals at a poll. Gives the news, if there are any: whether most packets are not IP.
    pub fn note(&mut self, at: Duration, all: u64, not_ip: u64) -> Option<bool> {
        let Some((since, all_before, before)) = self.began else {
            self.began = Some((at, all, not_ip));
            return None;
        };
        if at.saturating_sub(since) < WINDOW {
            return None;
        }
        self.began = Some((at, all, not_ip));
        let (all, not_ip) = (all.saturating_sub(all_before), not_ip.saturating_sub(before));
        let is_most = not_ip >= LEAST && not_ip > all / 2;
        (std::mem::replace(&mut self.is_most, is_most) != is_most).then_some(is_most)
    }

    /// Whether most packets were not IP in the last window.
    pub const fn is_most(&self) -> bool {
        self.is_most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_for_a_minute_is_news_and_so_is_its_end() {
        let mut share = NotIp::default();
        let mut note = |seconds, all, not_ip| share.note(Duration::from_secs(seconds), all, not_ip);
        assert_eq!(note(0, 1_000_000, 900_000), None);
        assert_eq!(note(30, 1_010_000, 910_000), None);
        assert_eq!(note(60, 1_020_000, 912_000), Some(true));
        assert_eq!(note(120, 1_040_000, 930_000), None);
        assert_eq!(note(180, 1_060_000, 931_000), Some(false));
    }

    #[test]
    fn arp_on_a_quiet_link_is_usual() {
        let mut share = NotIp::default();
        for minute in 0..10 {
            let news = share.note(Duration::from_secs(60 * minute), 2_999 * minute, 2_999 * minute);
            assert_eq!((news, share.is_most()), (None, false));
        }
    }
}
