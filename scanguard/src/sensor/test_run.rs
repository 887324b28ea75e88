//! The loaded program without a network: run on frames by BPF_PROG_TEST_RUN, its maps read as live.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, Xdp},
};
use scanguard_common::{abi, account::SourceState, address::Address};

use ipnet::IpNet;

use crate::{content::sample::Sample, network::Local};

pub use super::sys::run::{Run, run};
use super::{
    Feed, Poll, Sensor, SensorError, TurnedAway, Visit, egress, kernel::KernelSensor, samples::SampleRing,
    sys::run::run_with,
};

/// Moves this thread into a network namespace of its own. The program asks the sockets of the namespace that it
/// is run in for those that want a packet, and the sockets of this host have not seen the packets of a capture.
///
/// # Errors
/// It takes CAP_SYS_ADMIN.
pub fn isolate() -> io::Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The loaded program, attached to nothing. It knows no addresses of ours.
pub struct TestRunSensor {
    ebpf: Ebpf,
    /// Its maps.
    pub kernel: KernelSensor,
    samples: SampleRing,
    /// What a poll found; kept for its memory.
    found: Vec<(Address, SourceState)>,
}

impl TestRunSensor {
    /// From what [`super::program::load`] gives, with the bits of an IPv6 source that it keeps.
    ///
    /// # Errors
    /// See [`KernelSensor::new`].
    pub fn new(mut ebpf: Ebpf, ipv6_prefix: u8) -> Result<Self, SensorError> {
        let kernel = KernelSensor::new(&mut ebpf, ipv6_prefix)?;
        let samples = SampleRing::new(&mut ebpf)?;
        if let Err(error) = egress::load(&mut ebpf) {
            tracing::warn!("{error}; {}", egress::LOSS);
        }
        Ok(Self { ebpf, kernel, samples, found: Vec::new() })
    }

    fn program(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        let program: &Xdp = self.ebpf.program(abi::PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    /// Runs it `repeat` times on a frame.
    ///
    /// # Errors
    /// See [`run`].
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<Run, SensorError> {
        let program = self.program().map_err(|error| SensorError::Program { error })?;
        run(program, frame, repeat).map_err(|error| SensorError::Run { length: frame.len(), error })
    }

    /// Runs it once on a frame of which only so many bytes lie in the first buffer, as some drivers hand them over.
    ///
    /// # Errors
    /// See [`run`]; the kernel is older than Linux 6.18, or wants more bytes in the first buffer.
    pub fn run_split(&self, frame: &[u8], first: u32) -> Result<Run, SensorError> {
        let program = self.program().map_err(|error| SensorError::Program { error })?;
        let mut context = [0u32; XDP_WORDS];
        context[XDP_DATA_END] = first;
        run_with(program, frame, &context, 1).map_err(|error| SensorError::Run { length: frame.len(), error })
    }
}

/// Words of `struct xdp_md`, and the place of `data_end` among them.
const XDP_WORDS: usize = 6;
/// As above.
const XDP_DATA_END: usize = 1;

/// Words of `struct __sk_buff`, and the place of `ingress_ifindex` among them.
const SKB_WORDS: usize = 48;
/// As above.
const SKB_INGRESS_INTERFACE: usize = 9;

impl TestRunSensor {
    /// Runs the egress program on a frame that leaves: one that is forwarded, or that this host made.
    ///
    /// # Errors
    /// See [`run`].
    pub fn run_egress(&self, frame: &[u8], is_forwarded: bool, repeat: u32) -> Result<Run, SensorError> {
        let program = || -> Result<_, ProgramError> {
            let program = self.ebpf.program(abi::EGRESS_PROGRAM).ok_or(ProgramError::NotLoaded)?;
            let program: &SchedClassifier = program.try_into()?;
            Ok(program.fd()?.as_fd())
        };
        let program = program().map_err(|error| SensorError::Program { error })?;
        let mut context = [0u32; SKB_WORDS];
        context[SKB_INGRESS_INTERFACE] = u32::from(is_forwarded);
        run_with(program, frame, &context, repeat)
            .map_err(|error| SensorError::Run { length: frame.len(), error })
    }
}

impl Sensor for TestRunSensor {
    /// Hands on in the order of addresses, as the software sensor does: the kernel's is another in every run.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let mut ended = 0;
        self.found.clear();
        let found = &mut self.found;
        let poll = self.kernel.poll(&mut |source, state, epoch| {
            found.push((*source, *state));
            ended = epoch;
        })?;
        found.sort_unstable_by_key(|(source, _)| *source);
        for (source, state) in &self.found {
            each(source, state, ended);
        }
        Ok(poll)
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        self.kernel.look(source)
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        self.kernel.forget(source)
    }

    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        self.kernel.turned_away()
    }

    fn sees_handshakes(&self) -> bool {
        false
    }
}

impl Feed for TestRunSensor {
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.run(frame, 1).map(drop)
    }

    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.run_egress(frame, false, 1).map(drop)
    }

    fn samples(&mut self) -> Vec<Sample<Vec<u8>>> {
        self.samples.by_ref().collect()
    }

    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError> {
        let prefixes = home.iter().map(|network| (network.network(), network.prefix_len())).collect();
        self.kernel.set_local(&Local { prefixes, forwards: true })
    }
}
