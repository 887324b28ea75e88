//! Holds: the program shields some sources by itself, until the agent has judged them.
//!
//! An agent takes milliseconds to wake on a busy machine. In that time a scan at full speed has its answers. The agent
//! therefore tells the program beforehand how much evidence is enough for it to act for certain
//! ([`Control::hold_from`]). The program holds a source that reaches this: for a moment it is shielded
//! ([`crate::shield`]), and its probes are counted as always. Packets that a service wants pass, since the address may
//! be forged. A source is held once in an epoch at most. The agent's polls end epochs: without an agent, no source is
//! held a second time.

use crate::{abi::Control, account::HELD_ALREADY};

/// Distinct things that were missed: services or addresses, whichever are more. The rules count the same way.
#[inline(always)]
pub const fn distinct(missed: u32) -> u32 {
    let (services, hosts) = (missed & 0xffff, missed >> 16);
    if services > hosts { services } else { hosts }
}

/// The evidence against a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// [`crate::account::SourceState::missed`].
    pub missed: u32,
    /// Services that were met in this epoch and the one before: [`crate::account::Distinct::open_services`].
    pub met_services: u64,
    /// Addresses where a service was met: [`crate::account::Distinct::open_hosts`].
    pub met_hosts: u64,
}

impl Evidence {
    /// Distinct things that were met: services or addresses, whichever are more. So many hits on one service count
    /// once, and hits of long ago do not count.
    #[inline(always)]
    const fn met(self) -> u32 {
        let (services, hosts) = (self.met_services.count_ones(), self.met_hosts.count_ones());
        if services > hosts { services } else { hosts }
    }
}

/// Whether the agent will act on this evidence, as far as the program can know.
#[inline(always)]
pub fn is_due(control: &Control, evidence: Evidence) -> bool {
    if control.hold_from == 0 || evidence.missed == HELD_ALREADY {
        return false;
    }
    let missed = distinct(evidence.missed);
    missed >= control.hold_from && missed - control.hold_from >= evidence.met()
}

/// Encodes a hold in one number: the `jiffies_64` of its end, twice, plus 1 if the hold drops packets rather than
/// counts them.
#[inline(always)]
pub const fn hold(until: u64, enforced: bool) -> u64 {
    until << 1 | enforced as u64
}

/// Whether a hold is still running.
#[inline(always)]
pub const fn lasts(hold: u64, jiffies: u64) -> bool {
    hold >> 1 > jiffies
}

/// Whether a hold drops packets. A hold that began in a dry run never does.
#[inline(always)]
pub const fn is_enforced(hold: u64) -> bool {
    hold & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{MISSED_HOST, MISSED_SERVICE};

    fn control(hold_from: u32) -> Control {
        Control { epoch: 100, hold_from, ..Control::default() }
    }

    const NINE: Evidence = Evidence { missed: 9, met_services: 0, met_hosts: 0 };

    #[test]
    fn so_many_misses_are_enough_and_each_success_asks_for_one_more() {
        for (missed, met, due) in
            [(8, 0, false), (9, 0, true), (9, 1, false), (10, 1, true), (50, 60, false), (73, 64, true)]
        {
            let bits = u64::MAX.checked_shr(64 - met).unwrap_or(0);
            for (met_services, met_hosts) in [(bits, 0), (0, bits), (bits, bits)] {
                let evidence = Evidence { missed, met_services, met_hosts };
                assert_eq!(is_due(&control(9), evidence), due, "{missed} missed, {met} met");
            }
        }
        assert!(!is_due(&control(0), NINE), "it is off");
        assert!(!is_due(&control(9), Evidence { missed: HELD_ALREADY, ..NINE }), "once an epoch");
    }

    #[test]
    fn services_and_addresses_are_not_added_up() {
        let evidence =
            |services, hosts| Evidence { missed: services * MISSED_SERVICE + hosts * MISSED_HOST, ..NINE };
        for (services, hosts, due) in
            [(9, 9, true), (1, 9, true), (9, 1, true), (8, 8, false), (0, 512, true)]
        {
            assert_eq!(is_due(&control(9), evidence(services, hosts)), due, "{services}, {hosts}");
        }
    }

    #[test]
    fn a_hold_ends_and_knows_whether_it_drops() {
        for enforced in [false, true] {
            let held = hold(1 << 40, enforced);
            assert!(lasts(held, (1 << 40) - 1) && !lasts(held, 1 << 40));
            assert_eq!(is_enforced(held), enforced);
        }
        assert!(!lasts(0, 0));
    }
}
