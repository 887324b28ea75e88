//! Numbers that the compiler knows nothing about.

/// The same number, its range forgotten, so that the compiler leaves a comparison with a bound in the code:
/// the verifier often cannot follow how the compiler knows that it always holds.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    // SAFETY: a local variable.
    unsafe { core::ptr::read_volatile(&raw const number) }
}
