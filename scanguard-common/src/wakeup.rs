//! Wake-ups: when a source wakes the agent before its next poll.
//!
//! The agent looks at a source as a whole, so it need not look at each novelty. A source wakes it at the numbers of
//! novelties at which a rule can first match, and then each time that the number in this epoch has doubled. So a source
//! wakes the agent a few times in an epoch, whatever it sends, and a scan is looked at as soon as it can be found.

use crate::{abi::Control, account::Novelties};

/// Whether the last novelty wakes the agent.
#[inline(always)]
pub const fn is_due(control: &Control, novelties: Novelties) -> bool {
    let Novelties { all, in_epoch } = novelties;
    if control.wakeup == 0 || all < control.wakeup {
        return false;
    }
    // It has doubled, or it is the first one.
    let has_doubled = in_epoch & in_epoch.wrapping_sub(1) == 0;
    has_doubled || is_threshold(control.wakeup_at, in_epoch) || is_threshold(control.wakeup_at, all)
}

/// Whether a rule can first match at this number.
#[inline(always)]
const fn is_threshold(thresholds: u64, novelties: u32) -> bool {
    novelties < u64::BITS && thresholds >> novelties & 1 != 0
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// As the default rules have it.
    const THRESHOLDS: [u32; 5] = [3, 9, 10, 16, 20];

    fn control() -> Control {
        let wakeup_at = THRESHOLDS.iter().fold(0, |bits, threshold| bits | 1 << threshold);
        Control { wakeup: 3, wakeup_at, ..Control::default() }
    }

    /// The numbers of novelties in an epoch that wake the agent, of a source that had shown some before.
    fn wakes(control: &Control, before: u32, novelties: u32) -> Vec<u32> {
        let numbers = 1..=novelties;
        let due = |in_epoch: &u32| {
            is_due(control, Novelties { all: before.wrapping_add(*in_epoch), in_epoch: *in_epoch })
        };
        numbers.filter(due).collect()
    }

    #[test]
    fn a_thousand_novelties_wake_the_agent_a_few_times() {
        let woken = wakes(&control(), 0, 1_000);
        assert_eq!(woken, [3, 4, 8, 9, 10, 16, 20, 32, 64, 128, 256, 512]);
        assert!(wakes(&control(), u32::MAX - 100, 100_000).len() < 40, "also where the number wraps");
    }

    #[test]
    fn a_source_wakes_the_agent_wherever_a_rule_can_first_match() {
        for before in 0..30 {
            let woken = wakes(&control(), before, 64);
            for threshold in THRESHOLDS {
                assert!(woken.contains(&threshold), "{threshold} in this epoch, {before} before: {woken:?}");
                let left = threshold.saturating_sub(before);
                assert!(left == 0 || woken.contains(&left), "{threshold} in all, {before} before: {woken:?}");
            }
        }
        assert_eq!(wakes(&control(), 1_000, 1), [1], "the first of an epoch");
    }

    #[test]
    fn without_rules_nothing_wakes_the_agent() {
        assert!(wakes(&Control { wakeup: 0, ..control() }, 0, 1_000).is_empty());
    }
}
