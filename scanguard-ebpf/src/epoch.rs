//! The kernel half of `scanguard_common::epoch`: the epoch in which a source's distinct things are kept. It is the
//! agent's. When the agent is gone, the program moves it on.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    abi::{Control, Running},
    epoch,
};

use crate::clock;

/// Shared: all CPUs use one epoch.
#[btf_map]
static RUNNING: Array<Running, 1> = Array::new();

/// The running epoch. Moves it on if it has lasted for too long. Several CPUs may do this at once: they get the same
/// number, or the epoch lasts a little longer.
#[inline(always)]
pub(crate) fn running(control: &Control) -> u32 {
    let agent_epoch = agent_epoch(control);
    let Some(running) = RUNNING.get_ptr_mut(0) else {
        return agent_epoch;
    };
    // SAFETY: aligned numbers in a map. All CPUs change them by plain writes, in this order.
    unsafe {
        let (since, now) = (&raw mut (*running).since, &raw mut (*running).epoch);
        if (&raw const (*running).agent_epoch).read_volatile() != agent_epoch {
            since.write_volatile(clock::jiffies());
            now.write_volatile(agent_epoch);
            (&raw mut (*running).agent_epoch).write_volatile(agent_epoch);
            return agent_epoch;
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
    epoch::is_after(agent_epoch(control), epoch)
}

#[inline(always)]
fn agent_epoch(control: &Control) -> u32 {
    // SAFETY: a reference. The read is volatile, since the agent changes it meanwhile.
    unsafe { (&raw const control.epoch).read_volatile() }
}
