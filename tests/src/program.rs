//! Programs under BPF_PROG_TEST_RUN: the real one, and the empty one to compare with.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::Result;
use scanguard::sensor::{
    program::{self, KernelLogLevel},
    settings::Settings,
    test_run::TestRunSensor,
};

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `enum xdp_action`.
pub const XDP_PASS: u32 = 2;

/// The salt of all test programs, so that host and kernel set the same bits.
pub const SALT: u64 = 0x5ca9;

/// The real program, loaded and attached to nothing.
///
/// # Errors
/// The kernel does not take it.
pub fn load(settings: &Settings) -> Result<TestRunSensor> {
    Ok(TestRunSensor::new(program::load(settings, SALT, KernelLogLevel(0))?)?)
}

/// `union bpf_attr`, the part of `BPF_PROG_LOAD` that every kernel knows.
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

/// The program that passes everything: `r0 = XDP_PASS; exit`.
///
/// # Errors
/// The kernel does not take it.
pub fn empty() -> io::Result<OwnedFd> {
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, XDP_PASS as u8, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let mut attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let (pointer, size) = (&raw mut attributes, size_of::<LoadAttributes>());
    // SAFETY: the attributes of this command; what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, pointer, size) };
    let descriptor =
        i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
