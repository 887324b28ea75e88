//! The epoch by which a source's distinct things are kept: the agent's, or, since the agent is gone, one that the program has moved
//! on to, see `scanguard_common::epoch`.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    abi::{Control, Running},
    epoch,
};

use crate::clock;

/// Shared: all CPUs go by one epoch.
#[btf_map]
static RUNNING: Array<Running, 1> = Array::new();

/// The running epoch, as it is now. Moves it on if it has lasted for too long. Several CPUs may do that at once: they come to
/// the same number, or it lasts a little longer.
#[inline(always)]
pub(crate) fn running(control: &Control) -> u32 {
    let told = told(control);
    let Some(running) = RUNNING.get_ptr_mut(0) else {
        return told;
    };
    // SAFETY: aligned numbers in a map, which all CPUs change by plain writes, in this order.
    unsafe {
        let (since, now) = (&raw mut (*running).since, &raw mut (*running).epoch);
        if (&raw const (*running).told).read_volatile() != told {
            since.write_volatile(clock::jiffies());
            now.write_volatile(told);
            (&raw mut (*running).told).write_volatile(told);
            return told;
        }
        let epoch = now.read_volatile();
        let passed = clock::jiffies().wrapping_sub(since.read_volatile());
        let more = epoch::overdue(passed, control.epoch_ticks);
        if more == 0 {
            return epoch;
        }
        let next = epoch.wrapping_add(more);
        since.write_volatile(clock::jiffies());
        now.write_volatile(next);
        next
    }
}

/// Whether the agent has ended an epoch.
#[inline(always)]
pub(crate) fn has_ended(control: &Control, epoch: u32) -> bool {
    epoch::is_after(told(control), epoch)
}

#[inline(always)]
fn told(control: &Control) -> u32 {
    // SAFETY: a reference. Volatile, since the agent changes it meanwhile.
    unsafe { (&raw const control.epoch).read_volatile() }
}
