//! The shortest program of a kind, for questions about a kernel rather than about a program.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use super::sys::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;

/// `union bpf_attr`, the part of `BPF_PROG_LOAD` up to its flags.
#[repr(C)]
#[derive(Default)]
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

/// Loads `r0 = verdict; exit` as a program of a kind (`enum bpf_prog_type`) with flags of `BPF_PROG_LOAD`.
///
/// # Errors
/// The kernel refuses it.
pub fn load(kind: u32, verdict: u32, flags: u32) -> io::Result<OwnedFd> {
    let [a, b, c, d] = verdict.to_ne_bytes();
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let mut attributes = LoadAttributes {
        kind,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        flags,
        ..LoadAttributes::default()
    };
    // SAFETY: the attributes are those of the command; instructions and license outlive the call.
    let descriptor = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
