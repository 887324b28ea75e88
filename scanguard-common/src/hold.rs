//! The reflex: whom the program holds by itself, until the agent has judged.
//!
//! An agent takes milliseconds to wake on a busy machine, in which a scan at full speed has its answers. The agent
//! therefore tells the program beforehand from which evidence on it will do something for certain ([`Control::reflex`]); a
//! source that gets there is held: for a moment it is shielded from ([`crate::shield`]), and counted as ever. Whatever a service
//! wants passes, since the address may be a forgery. A source is held once an epoch at most. Epochs end by the agent's polls:
//! without an agent, nobody is held a second time.

use crate::{abi::Control, account::HELD_ALREADY};

/// Distinct things that were missed: services or addresses, whichever are more, as the rules reckon.
#[inline(always)]
pub const fn distinct(missed: u32) -> u32 {
    let (services, hosts) = (missed & 0xffff, missed >> 16);
    if services > hosts { services } else { hosts }
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// [`crate::account::SourceState::missed`].
    pub missed: u32,
    /// Probes that met a socket, since its insertion.
    pub met: u32,
}

/// Whether the agent will do something about a source of which this is known, as far as the program can tell.
#[inline(always)]
pub fn is_due(control: &Control, evidence: Evidence) -> bool {
    let Evidence { missed, met } = evidence;
    if control.reflex == 0 || missed == HELD_ALREADY {
        return false;
    }
    let missed = distinct(missed);
    if missed < control.reflex {
        return false;
    }
    // The services that were met are not told apart: each probe counts for one, in the source's favour.
    missed - control.reflex >= met
}

/// A hold as it is kept: the `jiffies_64` of its end, twice, and 1 more if it was begun to drop rather than to count.
#[inline(always)]
pub const fn hold(until: u64, enforced: bool) -> u64 {
    until << 1 | enforced as u64
}

/// Whether a hold has not ended.
#[inline(always)]
pub const fn lasts(hold: u64, jiffies: u64) -> bool {
    hold >> 1 > jiffies
}

/// Whether a hold was begun to drop: one of a dry run never does.
#[inline(always)]
pub const fn is_enforced(hold: u64) -> bool {
    hold & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{MISSED_HOST, MISSED_SERVICE};

    fn control(reflex: u32) -> Control {
        Control { epoch: 100, reflex, ..Control::default() }
    }

    const NINE: Evidence = Evidence { missed: 9, met: 0 };

    #[test]
    fn so_many_misses_are_enough_and_each_success_asks_for_one_more() {
        for (missed, met, due) in
            [(8, 0, false), (9, 0, true), (9, 1, false), (10, 1, true), (500, 600, false)]
        {
            assert_eq!(is_due(&control(9), Evidence { missed, met }), due, "{missed} missed, {met} met");
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
