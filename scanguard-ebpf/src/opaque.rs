//! Numbers whose range the compiler must not know.

/// Returns the same number, with its range hidden. So the compiler keeps a comparison with a bound in the code. The
/// verifier often cannot follow how the compiler knows that the comparison always holds.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    // SAFETY: a local variable.
    unsafe { core::ptr::read_volatile(&raw const number) }
}
