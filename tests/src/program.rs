//! Programs under BPF_PROG_TEST_RUN: the real one, and the empty one to compare with.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::Result;
use scanguard::{
    content::sampling::Settings as Sampling,
    sensor::{
        connections::Ground,
        least,
        program::{self, KernelLogLevel},
        settings::Settings,
        test_run::TestRunSensor,
    },
};

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_ATTACH: libc::c_long = 8;
/// As above.
const BPF_PROG_DETACH: libc::c_long = 9;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// As above.
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `enum xdp_action`.
pub const XDP_PASS: u32 = 2;

/// `enum tcx_action_base`: the next program decides.
pub const TCX_NEXT: u32 = u32::MAX;
/// The salt of all test programs, so that host and kernel set the same bits.
pub const SALT: u64 = 0x5ca9;

/// The epoch that budgets of samples are for.
pub const EPOCH: Duration = Duration::from_secs(1);

/// The real program, loaded and attached to nothing.
///
/// # Errors
/// The kernel does not take it.
pub fn load(settings: &Settings) -> Result<TestRunSensor> {
    load_sampling(settings, &Sampling::default())
}

/// As [`load`], with other settings of what is sampled and budgets for an [`EPOCH`].
///
/// # Errors
/// As [`load`].
pub fn load_sampling(settings: &Settings, content: &Sampling) -> Result<TestRunSensor> {
    let ebpf = program::load(settings, content, SALT, KernelLogLevel(0), &Ground::of_kernel()?)?;
    let mut loaded = TestRunSensor::new(ebpf, settings.ipv6_prefix)?;
    loaded.kernel.set_samples(content.budgets(EPOCH))?;
    Ok(loaded)
}

fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes are those of the command; what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// The program that passes everything: `r0 = XDP_PASS; exit`.
///
/// # Errors
/// The kernel does not take it.
pub fn empty() -> io::Result<OwnedFd> {
    least::load(BPF_PROG_TYPE_XDP, XDP_PASS, 0)
}

/// The same for what leaves: `r0 = TCX_NEXT; exit`.
///
/// # Errors
/// The kernel does not take it.
pub fn empty_egress() -> io::Result<OwnedFd> {
    least::load(BPF_PROG_TYPE_SCHED_CLS, TCX_NEXT, 0)
}

/// `union bpf_attr`, the anonymous struct of `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    interface: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

/// `enum bpf_attach_type`.
const BPF_TCX_EGRESS: u32 = 47;

/// Attaches programs that do nothing to what leaves by an interface of the calling thread's namespace, for as
/// long as that exists, until the kernel takes no more. Gives the first.
///
/// # Errors
/// The kernel does not take a single one, or more than one would think.
pub fn crowd_egress(interface: u32) -> io::Result<OwnedFd> {
    let first = empty_egress()?;
    attach_egress(interface, &first)?;
    // BPF_MPROG_MAX is 64.
    for _ in 0..100 {
        if attach_egress(interface, &empty_egress()?).is_err() {
            return Ok(first);
        }
    }
    Err(io::Error::other("a hundred programs, and still room"))
}

fn attach_egress(interface: u32, program: &OwnedFd) -> io::Result<()> {
    bpf(BPF_PROG_ATTACH, &mut AttachAttributes::of_egress(interface, program)).map(drop)
}

/// Takes a program off what leaves by an interface.
///
/// # Errors
/// It is not there.
pub fn leave_egress(interface: u32, program: &OwnedFd) -> io::Result<()> {
    bpf(BPF_PROG_DETACH, &mut AttachAttributes::of_egress(interface, program)).map(drop)
}

impl AttachAttributes {
    fn of_egress(interface: u32, program: &OwnedFd) -> Self {
        let program = program.as_raw_fd().cast_unsigned();
        Self { interface, program, kind: BPF_TCX_EGRESS, ..Self::default() }
    }
}
