//! Memory that all CPUs change: atomic operations whose result is not used.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use scanguard_common::account::Memory;

/// Map values, shared by the CPUs.
///
/// The standard atomics lack `fetch_add` on this target, whose oldest instruction sets have no compare-and-swap. The
/// intrinsics below them exist. Relaxed and with an unused result, they become single `lock` instructions that fetch
/// nothing.
pub(crate) struct Shared;

impl Memory for Shared {
    #[inline(always)]
    unsafe fn increment(counter: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, 1) };
    }

    #[inline(always)]
    unsafe fn set_bits(word: *mut u64, bits: u64) {
        // SAFETY: the caller's promise.
        unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits) };
    }
}
