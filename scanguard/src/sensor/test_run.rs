//! The loaded program without a network: BPF_PROG_TEST_RUN runs it on frames, and its maps are read as in the live
//! sensor.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, Xdp},
};
use scanguard_common::{abi, account::SourceState, address::Address, parse::addresses};

use ipnet::IpNet;

use crate::{content::sample::Sample, network::Local};

pub use super::sys::run::{Run, measure, run};
use super::{
    Feed, Poll, Sensor, SensorError, TurnedAway, Visit, egress,
    kernel::KernelSensor,
    samples::SampleRing,
    sys::run::{measure_with, run_with},
};

/// Moves this thread into a network namespace of its own. The program asks the sockets of the namespace in which it
/// runs, and this host's sockets have not seen the packets of a capture.
///
/// # Errors
/// It needs CAP_SYS_ADMIN.
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
    /// The addresses that are ours.
    home: Vec<IpNet>,
    /// The result of a poll; kept for its memory.
    found: Vec<(Address, SourceState)>,
}

impl TestRunSensor {
    /// Wraps what [`super::program::load`] returns, with the number of bits of an IPv6 source that it keeps.
    ///
    /// # Errors
    /// See [`KernelSensor::new`].
    pub fn new(mut ebpf: Ebpf, ipv6_prefix: u8) -> Result<Self, SensorError> {
        let kernel = KernelSensor::new(&mut ebpf, ipv6_prefix)?;
        let samples = SampleRing::new(&mut ebpf)?;
        if let Err(error) = egress::load(&mut ebpf, false) {
            tracing::warn!("{error}; {}", egress::LOSS);
        }
        Ok(Self { ebpf, kernel, samples, home: Vec::new(), found: Vec::new() })
    }

    /// The program for incoming packets, by XDP or by tc.
    fn program(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        if let Some(program) = self.ebpf.program(abi::TC_PROGRAM) {
            let program: &SchedClassifier = program.try_into()?;
            return Ok(program.fd()?.as_fd());
        }
        let program: &Xdp = self.ebpf.program(abi::PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    /// Runs the program `repeat` times on a frame.
    ///
    /// # Errors
    /// See [`run`].
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<Run, SensorError> {
        let program = self.program().map_err(|error| SensorError::Program { error })?;
        run(program, frame, repeat).map_err(|error| SensorError::Run { length: frame.len(), error })
    }

    /// Runs the program about `repeat` times on a frame, see [`measure`].
    ///
    /// # Errors
    /// See [`measure`].
    pub fn measure(&self, frame: &[u8], repeat: u32) -> Result<Run, SensorError> {
        let program = self.program().map_err(|error| SensorError::Program { error })?;
        measure(program, frame, repeat).map_err(|error| SensorError::Run { length: frame.len(), error })
    }

    /// Runs the program once on a frame with only this many bytes in the first buffer. Some drivers pass frames on
    /// like this.
    ///
    /// # Errors
    /// See [`run`]. Also: the kernel is older than Linux 6.18, or it requires more bytes in the first buffer.
    pub fn run_split(&self, frame: &[u8], first: u32) -> Result<Run, SensorError> {
        let program = self.program().map_err(|error| SensorError::Program { error })?;
        let mut context = [0u32; XDP_WORDS];
        context[XDP_DATA_END] = first;
        run_with(program, frame, &context, 1).map_err(|error| SensorError::Run { length: frame.len(), error })
    }
}

/// Number of words of `struct xdp_md`, and the place of `data_end` among them.
const XDP_WORDS: usize = 6;
/// As above.
const XDP_DATA_END: usize = 1;

/// Number of words of `struct __sk_buff`, and the place of `ingress_ifindex` among them.
const SKB_WORDS: usize = 48;
/// As above.
const SKB_INGRESS_INTERFACE: usize = 9;

/// The context of an outgoing frame: a forwarded one, or one that this host made.
fn leaving(is_forwarded: bool) -> [u32; SKB_WORDS] {
    let mut context = [0u32; SKB_WORDS];
    context[SKB_INGRESS_INTERFACE] = u32::from(is_forwarded);
    context
}

impl TestRunSensor {
    fn egress(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        let program = self.ebpf.program(abi::EGRESS_PROGRAM).ok_or(ProgramError::NotLoaded)?;
        let program: &SchedClassifier = program.try_into()?;
        Ok(program.fd()?.as_fd())
    }

    /// Runs the egress program on an outgoing frame: a forwarded one, or one that this host made.
    ///
    /// # Errors
    /// See [`run`].
    pub fn run_egress(&self, frame: &[u8], is_forwarded: bool, repeat: u32) -> Result<Run, SensorError> {
        let program = self.egress().map_err(|error| SensorError::Program { error })?;
        run_with(program, frame, &leaving(is_forwarded), repeat)
            .map_err(|error| SensorError::Run { length: frame.len(), error })
    }

    /// As [`Self::run_egress`] for a frame that this host made, about `repeat` times, see [`measure`].
    ///
    /// # Errors
    /// See [`measure`].
    pub fn measure_egress(&self, frame: &[u8], repeat: u32) -> Result<Run, SensorError> {
        let program = self.egress().map_err(|error| SensorError::Program { error })?;
        measure_with(program, frame, &leaving(false), repeat)
            .map_err(|error| SensorError::Run { length: frame.len(), error })
    }
}

impl Sensor for TestRunSensor {
    /// Passes sources on in the order of addresses, like the software sensor: the kernel's order differs from run to
    /// run.
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

    /// Once anything has left.
    fn sees_leaving(&self) -> bool {
        self.kernel.sees_leaving()
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        self.kernel.set_sees_answers(sees)
    }
}

impl Feed for TestRunSensor {
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.run(frame, 1).map(drop)
    }

    /// For this frame, the program is that of a host which has the frame's address and forwards nothing: it finds no
    /// socket, and that settles it.
    fn feed_refused(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        let Some((_, destination)) = addresses(&frame) else {
            return self.feed(frame);
        };
        let mut local = home(&self.home, false);
        local.prefixes.extend(home(&[IpNet::from(destination.to_ip())], false).prefixes);
        self.kernel.set_local(&local)?;
        let ran = self.feed(frame);
        self.kernel.set_local(&home(&self.home, true))?;
        ran
    }

    /// For this frame, its address is routed to a host, and nobody is there.
    fn feed_unanswered(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        let Some((_, destination)) = addresses(&frame) else {
            return self.feed(frame);
        };
        let (nobody, ours) = (IpNet::from(destination.to_ip()), home(&self.home, true));
        let mut local = ours.clone();
        local.prefixes.remove(&(nobody.network(), nobody.prefix_len()));
        self.kernel.set_routed(&[nobody]);
        self.kernel.set_local(&local)?;
        let ran = self.feed(frame);
        self.kernel.set_routed(&[]);
        self.kernel.set_local(&ours)?;
        ran
    }

    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.run_egress(frame, false, 1).map(drop)
    }

    fn samples(&mut self) -> Vec<Sample<Vec<u8>>> {
        self.samples.by_ref().collect()
    }

    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError> {
        self.home = home.to_vec();
        self.kernel.set_local(&self::home(home, true))
    }

    fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError> {
        self.kernel.set_sees_leaving(sees)
    }
}

/// The addresses of a host with these networks.
fn home(networks: &[IpNet], forwards: bool) -> Local {
    let prefixes = networks.iter().map(|network| (network.network(), network.prefix_len())).collect();
    Local { prefixes, forwards }
}
