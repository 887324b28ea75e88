//! Flows that were judged to be ordinary: a small table a CPU, so that the sockets are asked once a flow, not
//! once a packet. A flow that falls on the place of another takes it; the other is then asked about again.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};

/// Places, 8 bytes each; a power of two.
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

/// Makes it known.
#[inline(always)]
pub(crate) fn remember(tag: u64) {
    if let Some(known) = FLOWS.get_ptr_mut(place(tag)) {
        // SAFETY: this CPU's entry of a map.
        unsafe { known.write(tag) };
    }
}
