//! bpf(2) itself, for the commands that aya does not make.

pub(super) mod batch;
pub(super) mod run;

use std::io;

/// Calls bpf(2); gives what the kernel returned.
///
/// # Safety
/// The attributes are laid out as the command wants them, and what they point to is valid and as large as
/// they say.
pub(in crate::sensor) unsafe fn bpf<A>(
    command: libc::c_long,
    attributes: &mut A,
) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are exclusively borrowed and as long as is said; the rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
