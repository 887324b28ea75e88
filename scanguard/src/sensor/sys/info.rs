//! What the kernel says about a loaded program: BPF_OBJ_GET_INFO_BY_FD.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// `union bpf_attr`, the struct named `info`.
#[repr(C)]
struct Attributes {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, up to what is wanted. Lengths of arrays are 0, so that the kernel writes none.
#[repr(C)]
struct Info {
    /// From `type` to `run_cnt`.
    others: [u64; 26],
    recursion_misses: u64,
}

/// How often the kernel did not run a program because it was running already on that CPU.
///
/// # Errors
/// The kernel does not say.
pub(in crate::sensor) fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = Info { others: [0; 26], recursion_misses: 0 };
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the attributes are those of the command, and `info` has the length that they say.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info.recursion_misses)
}
