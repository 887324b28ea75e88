//! Runs a loaded program on a frame: BPF_PROG_TEST_RUN.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use super::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// `union bpf_attr`, the struct named `test`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    verdict: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// The verdict, of `enum xdp_action`.
    pub verdict: u32,
    /// Mean time of one run.
    pub duration: Duration,
}

/// Runs an XDP program `repeat` times on a frame.
///
/// # Errors
/// The kernel refuses the frame, see [`crate::sensor::FRAME_LENGTHS`], or it has no memory.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<Run> {
    run_with(program, frame, &[], repeat)
}

/// As [`run`], by one call of the kernel, which is faster. If a signal interrupts it, all of it begins again: then the
/// program has run more often than `repeat` times.
///
/// # Errors
/// As [`run`].
pub fn measure(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<Run> {
    measure_with(program, frame, &[], repeat)
}

/// A signal cuts a call short that runs the program several times, and nobody knows how many times it ran. Mostly it is
/// once: the kernel waits for RCU before it runs an XDP program several times, long enough for a signal to come. A call
/// that runs the program once is always whole: the kernel looks for signals only where another time is left
/// (`bpf_test_timer_continue`, net/bpf/test_run.c, since Linux 5.13).
pub(in crate::sensor) fn run_with(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u32],
    repeat: u32,
) -> io::Result<Run> {
    let mut last = measure_with(program, frame, context, 1)?;
    let mut duration = last.duration;
    for _ in 1..repeat {
        last = measure_with(program, frame, context, 1)?;
        duration += last.duration;
    }
    Ok(Run { duration: duration / repeat.max(1), ..last })
}

/// See [`measure`].
pub(in crate::sensor) fn measure_with(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u32],
    repeat: u32,
) -> io::Result<Run> {
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: frame.as_ptr() as u64,
        repeat,
        context_size_in: u32::try_from(size_of_val(context)).map_err(io::Error::other)?,
        context_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        ..Attributes::default()
    };
    loop {
        // SAFETY: the attributes of this command; the frame is as long as `size_in` says, and nothing is
        // written, since there is no `data_out`.
        match unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) } {
            Ok(_) => {
                let duration = Duration::from_nanos(attributes.duration.into());
                return Ok(Run { verdict: attributes.verdict, duration });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs an XDP program once on a frame, and reads the changed frame.
///
/// # Errors
/// As [`run`].
pub(in crate::sensor) fn run_and_read(program: BorrowedFd<'_>, frame: &mut [u8]) -> io::Result<()> {
    let size = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let place = frame.as_mut_ptr() as u64;
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: size,
        size_out: size,
        data_in: place,
        data_out: place,
        repeat: 1,
        ..Attributes::default()
    };
    // SAFETY: the attributes of this command; the frame is as long as both sizes say, and the kernel has copied it
    // before it writes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.map(drop)
}
