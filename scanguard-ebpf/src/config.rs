//! What the agent sets before the program is loaded (constants to the verifier) and while it runs.

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use scanguard_common::{abi::Control, address::SourceMask};

/// Read by nobody: its name is the version of the contract, see `scanguard_common::abi`.
#[used]
#[unsafe(no_mangle)]
static SCANGUARD_ABI_6: Global<u32> = Global::new(6);

#[unsafe(no_mangle)]
static SOURCE_MASK: Global<[u64; 2]> = Global::new(SourceMask::new(64).words());

#[unsafe(no_mangle)]
static SALT: Global<u64> = Global::new(0);

#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();

/// What of an IPv6 source address is kept.
#[inline(always)]
pub(crate) fn source_mask() -> SourceMask {
    SourceMask::from_words(SOURCE_MASK.load())
}

/// The salt of the bitmaps.
#[inline(always)]
pub(crate) fn salt() -> u64 {
    SALT.load()
}

/// All of it. The agent replaces it as a whole, so that parts may be of two versions for an instant.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}
