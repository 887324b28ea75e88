//! bpf(2) itself, for the commands that aya does not have.

pub(super) mod batch;
pub(super) mod info;
pub(super) mod run;

use std::io;

/// Calls bpf(2). Returns the kernel's result.
///
/// # Safety
/// The attributes have the layout of the command. Their pointers are valid, and the memory is as large as they say.
pub(in crate::sensor) unsafe fn bpf<A>(
    command: libc::c_long,
    attributes: &mut A,
) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are exclusively borrowed and have the given size. The rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
