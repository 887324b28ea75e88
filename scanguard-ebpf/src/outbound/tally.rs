//! Exact numbers of what was looked at.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::actor::{Seen, Tally};

use crate::opaque::opaque;

#[btf_map]
static OUTBOUND_TALLY: PerCpuArray<Tally, 1> = PerCpuArray::new();

/// One of this kind was seen.
#[inline(always)]
pub(super) fn count(seen: Seen) {
    count_index(seen as u32);
}

/// The same, by the number of the kind.
#[inline(always)]
pub(super) fn count_index(seen: u32) {
    let Some(tally) = OUTBOUND_TALLY.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's entry. A program that interrupts another one on this CPU may cost a count.
    if let Some(counter) = unsafe { (*tally).seen.get_mut(opaque(seen as usize)) } {
        *counter += 1;
    }
}
