//! Fields of the kernel's own structures, at the offsets that its BTF gives.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use scanguard_common::proof::Field;

use crate::config;

/// A field of one of the kernel's structures.
///
/// # Safety
/// The field has this type.
#[inline(always)]
pub(crate) unsafe fn read<T: Copy>(structure: *const u8, field: Field) -> Option<T> {
    // SAFETY: the helper checks the address, and the caller knows the type.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(config::offset(field)).cast::<T>()).ok() }
}
