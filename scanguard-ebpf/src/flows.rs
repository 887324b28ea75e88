//! Flows that were judged to be ordinary. With a small table on each CPU, the sockets are asked once for a flow, not
//! once for a packet. A flow takes the place of another one with the same place; then the sockets are asked again
//! about the other one.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};

/// Number of places, 8 bytes each; a power of two.
const PLACES: usize = 16_384;

#[btf_map]
static FLOWS: PerCpuArray<u64, PLACES> = PerCpuArray::new();

#[inline(always)]
fn place(tag: u64) -> u32 {
    (tag >> 40) as u32 & (PLACES as u32 - 1)
}

/// Whether a flow with this tag is known.
#[inline(always)]
pub(crate) fn known(tag: u64) -> bool {
    FLOWS.get(place(tag)).is_some_and(|known| *known == tag)
}

/// Remembers the flow with this tag.
#[inline(always)]
pub(crate) fn remember(tag: u64) {
    if let Some(known) = FLOWS.get_ptr_mut(place(tag)) {
        // SAFETY: this CPU's entry of a map.
        unsafe { known.write(tag) };
    }
}
