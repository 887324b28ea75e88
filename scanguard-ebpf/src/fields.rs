//! Fields of the kernel's own structures, at the offsets that its BTF gives.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use scanguard_common::{actor_field::ActorField, address::Address, proof::Field};

use crate::config;

/// A field of one of the kernel's structures.
///
/// # Safety
/// The field has this type.
#[inline(always)]
pub(crate) unsafe fn read<T: Copy>(structure: *const u8, field: Field) -> Option<T> {
    // SAFETY: the helper checks the address, and the caller knows the type.
    unsafe { read_at(structure, config::offset(field)) }
}

/// As [`read`], for the fields that outbound traffic needs.
///
/// # Safety
/// The field has this type.
#[inline(always)]
pub(crate) unsafe fn read_actor<T: Copy>(structure: *const u8, field: ActorField) -> Option<T> {
    // SAFETY: as above.
    unsafe { read_at(structure, config::actor_offset(field)) }
}

/// Something at an offset in one of the kernel's structures.
///
/// # Safety
/// There is something of this type.
#[inline(always)]
pub(crate) unsafe fn read_at<T: Copy>(structure: *const u8, offset: usize) -> Option<T> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(offset).cast::<T>()).ok() }
}

/// Whether a socket may own addresses of others (IP_TRANSPARENT).
#[inline(always)]
pub(crate) fn is_transparent(socket: *const u8) -> bool {
    let (offset, mark) = config::transparent();
    // SAFETY: the helper checks the address, and a byte may have any value.
    let byte = unsafe { bpf_probe_read_kernel(socket.wrapping_add(offset)) };
    byte.is_ok_and(|byte| byte & mark != 0)
}

/// Address families (include/linux/socket.h).
pub(crate) const AF_INET: u16 = 2;
/// As above.
pub(crate) const AF_INET6: u16 = 10;

/// The number of the network namespace of a socket.
///
/// # Safety
/// It is a socket of the kernel.
#[inline(always)]
pub(crate) unsafe fn namespace(socket: *const u8) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe { read(read(socket, Field::Namespace)?, Field::NamespaceNumber) }
}

/// The remote address of a socket.
///
/// # Safety
/// It is a socket of the kernel.
#[inline(always)]
pub(crate) unsafe fn remote(socket: *const u8) -> Option<Address> {
    // SAFETY: the caller's promise.
    unsafe {
        match read::<u16>(socket, Field::Family)? {
            // Plain numbers, whose place on the stack is aligned: the verifier refuses any other.
            AF_INET => Some(Address::from_v4(&read::<u32>(socket, Field::RemoteV4)?.to_ne_bytes())),
            AF_INET6 => Some(Address::from_words(read(socket, Field::RemoteV6)?)),
            _ => None,
        }
    }
}
