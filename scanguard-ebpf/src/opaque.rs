//! Numbers whose range the compiler must not know.

/// Returns the same number, with its range hidden. So the compiler keeps a comparison with a bound in the code. The
/// verifier often cannot follow how the compiler knows that the comparison always holds.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    // SAFETY: a local variable.
    unsafe { core::ptr::read_volatile(&raw const number) }
}

/// A number with only the bits of a mask, by an instruction that the compiler cannot leave out.
#[inline(always)]
pub(crate) fn masked<const MASK: usize>(mut number: usize) -> usize {
    // SAFETY: it changes a register.
    unsafe { core::arch::asm!("{number} &= {mask}", number = inout(reg) number, mask = const MASK) };
    number
}

/// A length from 1 to `limit`, in comparisons that the verifier can follow. Before Linux 6.8 it does not learn from a
/// comparison with 0 that a number is not 0. From a comparison with a bound it learns both ends.
#[inline(always)]
pub(crate) fn bounded(len: usize, limit: usize) -> Option<usize> {
    let less_one = opaque(len.min(limit).wrapping_sub(1));
    (less_one < limit).then(|| less_one + 1)
}
