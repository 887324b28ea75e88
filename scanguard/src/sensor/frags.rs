//! Whether this kernel takes programs for frames that lie in several buffers: without it, it refuses ours with EINVAL and
//! without a word.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use super::syscall::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_XDP: u32 = 6;
/// A flag of `BPF_PROG_LOAD`.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// `r0 = XDP_PASS; exit`.
const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// `union bpf_attr`, the part of `BPF_PROG_LOAD` up to its flags.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Has the kernel take the shortest such program, which is let go at once.
///
/// # Errors
/// It refuses for another reason than that it does not know them.
pub fn are_supported() -> io::Result<bool> {
    let mut attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: PASS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: BPF_F_XDP_HAS_FRAGS,
    };
    // SAFETY: the attributes are those of the command; instructions and license outlive the call.
    match unsafe { bpf(BPF_PROG_LOAD, &mut attributes) } {
        Ok(descriptor) => {
            let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
            // SAFETY: a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}
