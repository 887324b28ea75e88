//! The kernel half of `scanguard_common::used`: the marks of the flows that this host used.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    outcome::Flow,
    used::{Mark, PLACES},
};

use crate::{
    argument::{Given, Place, give, given},
    config,
};

/// Shared: an answer may arrive on any CPU.
#[btf_map]
static USED: Array<u64, PLACES> = Array::new();

/// Notes that this host used a flow. Returns whether it was not noted yet, or must be noted anew. Two CPUs may write the
/// same place at once; then one of the flows is lost.
#[inline(always)]
pub(crate) fn note(flow: &Flow) -> bool {
    let Some(control) = config::control() else {
        return false;
    };
    let mark = Mark::new(flow, config::salt());
    let Some(held) = USED.get_ptr_mut(mark.place) else {
        return false;
    };
    // SAFETY: an aligned number in a map.
    unsafe {
        let is_due = mark.is_due(held.read(), control.epoch, control.used_epochs);
        if is_due {
            held.write(mark.value(control.epoch));
        }
        is_due
    }
}

/// Whether this host used a flow lately.
#[inline(always)]
pub(crate) fn was(flow: &Flow) -> bool {
    scanguard_used(give(Place::Used, flow)) != 0
}

/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_used(flow: Given<Flow>) -> u32 {
    let (Some(flow), Some(control)) = (given::<Flow>(flow), config::control()) else {
        return 0;
    };
    let mark = Mark::new(flow, config::salt());
    let Some(held) = USED.get_ptr_mut(mark.place) else {
        return 0;
    };
    // SAFETY: an aligned number in a map.
    mark.is_known(unsafe { held.read() }, control.epoch, control.used_epochs).into()
}
