//! The ring of sources that did something. The agent reads it.
//!
//! The program never empties the ring. Its count only grows, and from the count alone the agent knows which entries
//! are new and which were overwritten before it read them. No probe has to check for room.

#[cfg(not(feature = "old"))]
use core::arch::asm;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    abi::{DEFAULT_MAX_SOURCES, change_places},
    address::Address,
};

use crate::config;

#[btf_map]
static CHANGES: Array<Address, { change_places(DEFAULT_MAX_SOURCES) as usize }> = Array::new();

#[btf_map]
static CHANGE_COUNT: Array<u64, 1> = Array::new();

/// Writes a source into the ring.
#[inline(always)]
pub(crate) fn list(source: &Address) {
    let Some(count) = CHANGE_COUNT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an aligned number in a map.
    let number = unsafe { take_number(count) };
    if let Some(place) = CHANGES.get_ptr_mut(number as u32 & config::changes_mask()) {
        // SAFETY: an entry of a map. If the agent reads it half written, it finds no such source; it finds the source
        // in the next epoch, see `sources`.
        unsafe { place.write(*source) };
    }
}

/// Adds 1 and gives the number before, by an instruction that the compiler does not use for this target (Linux 5.12).
///
/// # Safety
/// `count` is valid for reads and writes and aligned.
#[cfg(not(feature = "old"))]
#[inline(always)]
unsafe fn take_number(count: *mut u64) -> u64 {
    let mut number = 1u64;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "{number} = atomic_fetch_add((u64 *)({count} + 0), {number})",
            number = inout(reg) number,
            count = in(reg) count,
        );
    }
    number
}

/// The same where there is no such instruction. Two CPUs that add at the same moment may get the same number: then one of
/// their sources is not listed in this epoch.
///
/// # Safety
/// As above.
#[cfg(feature = "old")]
#[inline(always)]
unsafe fn take_number(count: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(count, 1);
        count.read_volatile().wrapping_sub(1)
    }
}

/// The source that was written with this number, or a later one that took its place in the ring.
#[inline(always)]
pub(crate) fn listed(number: u64) -> Option<&'static Address> {
    CHANGES.get(number as u32 & config::changes_mask())
}
