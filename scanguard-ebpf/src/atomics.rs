//! Memory that all CPUs change: atomic operations whose result is not used.

#[cfg(not(feature = "old"))]
use core::intrinsics::atomic_or;
use core::intrinsics::{AtomicOrdering, atomic_xadd};

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
        #[cfg(not(feature = "old"))]
        unsafe {
            atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits);
        }
        // Linux has that instruction since 5.12. Of two CPUs that set bits of the same word at once, one may set none.
        // SAFETY: the caller's promise.
        #[cfg(feature = "old")]
        unsafe {
            word.write_volatile(word.read_volatile() | bits);
        }
    }
}
