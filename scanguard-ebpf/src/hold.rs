//! The kernel half of `scanguard_common::hold`: begins holds in the table of sources, and applies them.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    abi::{Control, GATE_ENFORCE, GATE_OFF},
    account::{HELD_ALREADY, Memory as _, SourceState},
    address::Address,
    hold::{self, Evidence},
};

use crate::{atomics::Shared, clock, gate, tally};

/// How many holds were begun.
#[repr(C)]
struct Begun {
    /// In this epoch.
    epoch: u32,
    /// This many.
    count: u32,
}

/// Shared: the bound is for the whole host.
#[btf_map]
static BEGUN: Array<Begun, 1> = Array::new();

/// Whether a probe that meets nobody and is already counted is dropped: its source is held, or the hold begins now.
///
/// # Safety
/// `state` is a value of the table of sources.
#[inline(always)]
pub(crate) unsafe fn drops(control: &Control, state: *mut SourceState, source: Address) -> bool {
    if control.hold_from == 0 || control.gate == GATE_OFF {
        return false;
    }
    // SAFETY: aligned numbers, valid while the program runs. All CPUs change them by plain writes.
    let (held, evidence) = unsafe {
        let held = (&raw const (*state).held).read();
        let (one, other) = (&raw const (*state).windows[0], &raw const (*state).windows[1]);
        let evidence = Evidence {
            missed: (&raw const (*state).missed).read(),
            met_services: (&raw const (*one).open_services).read()
                | (&raw const (*other).open_services).read(),
            met_hosts: (&raw const (*one).open_hosts).read() | (&raw const (*other).open_hosts).read(),
        };
        (held, evidence)
    };
    let is_held = held != 0 && hold::lasts(held, clock::jiffies());
    if !is_held && !hold::is_due(control, evidence) || gate::is_allowed(control, source) {
        return false;
    }
    let held = if is_held {
        held
    } else {
        // SAFETY: as above.
        match unsafe { begin(control, state) } {
            Some(held) => held,
            None => return false,
        }
    };
    if hold::is_enforced(held) && control.gate == GATE_ENFORCE {
        return true;
    }
    tally::count_would_drop();
    false
}

/// Begins to hold a source. It refuses if this epoch already has so many holds that the sources are more likely forged
/// than all scanners.
#[inline(always)]
unsafe fn begin(control: &Control, state: *mut SourceState) -> Option<u64> {
    // SAFETY: as in `drops`.
    unsafe { (&raw mut (*state).missed).write(HELD_ALREADY) };
    let begun = BEGUN.get_ptr_mut(0)?;
    // SAFETY: aligned numbers in a map. Two CPUs that start an epoch at once may admit one too many.
    let count = unsafe {
        if (&raw const (*begun).epoch).read() != control.epoch {
            (&raw mut (*begun).count).write(0);
            (&raw mut (*begun).epoch).write(control.epoch);
        }
        (&raw const (*begun).count).read()
    };
    let has_room = count < control.max_holds;
    tally::count_hold(has_room);
    if !has_room {
        return None;
    }
    let until = clock::jiffies().wrapping_add(u64::from(control.hold_ticks));
    let held = hold::hold(until, control.gate == GATE_ENFORCE);
    // SAFETY: as above.
    unsafe {
        Shared::increment(&raw mut (*begun).count);
        (&raw mut (*state).held).write(held);
    }
    Some(held)
}
