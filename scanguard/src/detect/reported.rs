//! Remembers activity that is no longer evidence. Activity of a closed finding is no evidence for findings of the same
//! kind; activity of a released source is no evidence for any finding.

use std::{collections::HashMap, time::Duration};

use scanguard_common::address::Address;

/// Stands for all rules. No rule has this name.
const EVERY: &str = "";

/// A closed finding.
#[derive(Clone, Copy, Debug)]
struct Over {
    rule: &'static str,
    covers: &'static [&'static str],
    /// When its source was last active.
    until: Duration,
}

/// Closed findings by source. Bounded: the oldest are forgotten.
#[derive(Debug)]
pub(super) struct Reported {
    over: HashMap<Address, Vec<Over>>,
    max_sources: usize,
    /// Activity of any source up to this time is no evidence.
    all: Duration,
}

impl Reported {
    /// Starts without closed findings.
    pub(super) fn new(max_sources: usize) -> Self {
        Self { over: HashMap::new(), max_sources, all: Duration::ZERO }
    }

    /// Activity of a source up to this time was reported, by this rule or by one that covers it; zero if it never was.
    pub(super) fn until(&self, rule: &str, address: &Address) -> Duration {
        let over = self.over.get(address).into_iter().flatten();
        let reported = over.filter(|over| [rule, EVERY].contains(&over.rule) || over.covers.contains(&rule));
        // Activity at exactly that time was reported too.
        reported.map(|over| over.until + Duration::from_nanos(1)).max().unwrap_or_default().max(self.all)
    }

    /// Makes activity of a source up to this time no evidence for any rule.
    pub(super) fn settle(&mut self, address: Address, until: Duration) {
        self.add(address, EVERY, &[], until);
    }

    /// Makes activity of every source up to this time no evidence for any rule.
    pub(super) fn settle_all(&mut self, until: Duration) {
        self.all = until + Duration::from_nanos(1);
        self.over.clear();
    }

    /// Records a closed finding.
    pub(super) fn add(
        &mut self,
        address: Address,
        rule: &'static str,
        covers: &'static [&'static str],
        until: Duration,
    ) {
        if self.over.len() >= self.max_sources && !self.over.contains_key(&address) {
            self.forget();
        }
        let over = self.over.entry(address).or_default();
        over.retain(|over| over.rule != rule);
        over.push(Over { rule, covers, until });
    }

    /// Forgets the older half.
    fn forget(&mut self) {
        let last = |over: &[Over]| over.iter().map(|over| over.until).max().unwrap_or_default();
        let mut ages: Vec<_> = self.over.values().map(|over| last(over)).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        self.over.retain(|_, over| last(over) > median);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> Address {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn what_a_rule_told_is_told_for_those_it_covers_and_for_no_other() {
        let mut reported = Reported::new(10);
        reported.add(address(1), "general", &["special"], Duration::from_secs(5));
        for (rule, seconds) in [("general", 5), ("special", 5), ("other", 0)] {
            assert_eq!(reported.until(rule, &address(1)).as_secs(), seconds, "{rule}");
        }
        assert_eq!(reported.until("general", &address(2)), Duration::ZERO);
    }

    #[test]
    fn what_is_settled_is_no_evidence_for_any_rule() {
        let mut reported = Reported::new(10);
        reported.settle(address(1), Duration::from_secs(5));
        assert_eq!(reported.until("any", &address(1)).as_secs(), 5);
        assert_eq!(reported.until("any", &address(2)), Duration::ZERO);
        reported.settle_all(Duration::from_secs(7));
        for last in [1, 2] {
            assert_eq!(reported.until("any", &address(last)).as_secs(), 7);
        }
    }

    proptest::proptest! {
        /// The activity that was reported last is never evidence again. Adding a finding never turns reported activity
        /// back into evidence, unless there is no room.
        #[test]
        fn what_was_told_stays_told_and_what_is_kept_has_a_bound(
            steps in proptest::collection::vec((0u8..6, 0usize..3, 0u64..100, 0u8..12), 0..60),
        ) {
            const RULES: [&str; 3] = ["general", "special", "other"];
            const ROOM: usize = 4;
            let mut reported = Reported::new(ROOM);
            let (mut at, mut all) = (0, Duration::ZERO);
            for (source, rule, pause, what) in steps {
                at += pause;
                let now = Duration::from_secs(at);
                match what {
                    0 => {
                        reported.settle_all(now);
                        all = now;
                    }
                    1 => reported.settle(address(source), now),
                    _ => reported.add(address(source), RULES[rule], &["special"], now),
                }
                let is_told = |rule| reported.until(rule, &address(source)) > now;
                match what {
                    0 | 1 => proptest::prop_assert!(RULES.into_iter().all(is_told)),
                    _ => proptest::prop_assert!(is_told(RULES[rule]) && is_told("special")),
                }
                proptest::prop_assert!(reported.over.len() <= ROOM);
                for source in 0..6 {
                    let until = reported.until("general", &address(source));
                    proptest::prop_assert!(until >= all && until <= now + Duration::from_nanos(1));
                }
            }
        }
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_is_no_room() {
        let mut reported = Reported::new(4);
        for last in 1..=50 {
            reported.add(address(last), "rule", &[], Duration::from_secs(last.into()));
            assert!(reported.over.len() <= 4);
        }
        assert_eq!(reported.until("rule", &address(50)).as_secs(), 50);
        assert_eq!(reported.until("rule", &address(1)), Duration::ZERO);
    }
}
