//! The wire of the lab: counts of its interfaces, and frames sent as fast as the kernel can (BPF_PROG_TEST_RUN with
//! BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18).

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use scanguard_tests::fixtures::{
    lab::{Lab, Namespace, SCANNER_INTERFACE, VICTIM_INTERFACE, run},
    wire::index,
};

use crate::c_programs;

/// Frames of one call, which is not to be interrupted by anything.
const FRAMES: u32 = 500_000;
/// Frames that are handed to the interface at once: what a driver takes in one go (NAPI_POLL_WEIGHT).
const BATCH: u32 = 64;

/// Frames that XDP programs on the victim's interface were given. The driver counts these for each queue.
///
/// # Errors
/// ethtool does not say.
pub(crate) fn received(victim: &Namespace) -> Result<u64> {
    let output = run(victim.command("ethtool").args(["-S", VICTIM_INTERFACE]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text.lines().filter_map(|line| line.trim().split_once(": "));
    Ok(counts
        .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"))
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum())
}

/// Packets that an interface sent, and those that it could not hand on since the other end's queue was full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Handed on.
    pub(crate) packets: u64,
    /// Lost at once.
    pub(crate) dropped: u64,
}

impl Sent {
    /// Both.
    pub(crate) fn all(self) -> u64 {
        self.packets + self.dropped
    }
}

/// Frames that the scanner's interface sent so far.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn sent(scanner: &Namespace) -> Result<Sent> {
    scanner.enter(|| sent_here().context("the counts of the scanner's interface"))
}

/// The same, for a thread that is in the scanner's namespace.
pub(crate) fn sent_here() -> Option<Sent> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").ok()?;
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix(SCANNER_INTERFACE)?.strip_prefix(':'))?;
    // Eight counts of what is received, then of what is sent: bytes, packets, errors, drops.
    let counts: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
    Some(Sent { packets: *counts.get(9)?, dropped: *counts.get(11)? })
}

/// The change of each frame before it is sent; see `benches/c/wire.c`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Another source for each, of [`FORGED`].
    Forged,
    /// The same, but each source twice in succession.
    ForgedTwice,
    /// Noise throughout, and cut. Frames must have [`GARBAGE`] bytes.
    Garbage,
}

/// How many sources [`Change::Forged`] has.
pub(crate) const FORGED: u64 = 10_000_000;
/// Bytes of a frame of [`Change::Garbage`].
pub(crate) const GARBAGE: usize = 256;

impl Change {
    const fn program(self) -> &'static str {
        match self {
            Self::None => "transmit",
            Self::Forged => "transmit_forged",
            Self::ForgedTwice => "transmit_forged_twice",
            Self::Garbage => "transmit_garbage",
        }
    }
}

/// Sends frames out of the scanner's interface.
pub(crate) struct Sender<'l> {
    lab: &'l Lab,
    ebpf: Ebpf,
    change: Change,
}

/// Frames that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Frames a second that the victim's program was given.
    pub(crate) rate: f64,
    /// Frames that were sent and did not arrive.
    pub(crate) lost: u64,
}

impl<'l> Sender<'l> {
    /// The interface that frames are sent from must have a program itself, or it has no queues of the kind.
    ///
    /// # Errors
    /// There is no clang, or the kernel does not know live frames.
    pub(crate) fn new(lab: &'l Lab, change: Change) -> Result<Self> {
        let mut ebpf = c_programs::load("wire")?;
        c_programs::program(&mut ebpf, change.program())?;
        let pass = c_programs::program(&mut ebpf, "pass_all")?;
        lab.scanner.enter(|| Ok(pass.attach(SCANNER_INTERFACE, XdpMode::Driver).map(drop)?))?;
        Ok(Self { lab, ebpf, change })
    }

    /// Sends one frame again and again for so long. The victim's interface must have a program in native mode: else
    /// the frames vanish unseen.
    ///
    /// # Errors
    /// The kernel does not send them, or nobody counts them.
    pub(crate) fn send(&self, frame: &[u8], time: Duration) -> Result<Arrived> {
        let start = Instant::now();
        self.send_while(frame, |_| start.elapsed() < time)
    }

    /// As [`Self::send`], as long as it is to go on after so many frames.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn send_while(
        &self,
        frame: &[u8],
        mut goes_on: impl FnMut(u64) -> bool + Send,
    ) -> Result<Arrived> {
        let name = self.change.program();
        let transmit: &Xdp = self.ebpf.program(name).context(name)?.try_into()?;
        let before = received(&self.lab.victim)?;
        let start = Instant::now();
        let frames = self.lab.scanner.enter(|| {
            let context = context(frame, index(SCANNER_INTERFACE)?)?;
            let mut frames = 0;
            while goes_on(frames) {
                transmit.test_run(TestRunOptions {
                    data_in: Some(frame),
                    ctx_in: Some(&context),
                    repeat: FRAMES,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::new()
                })?;
                frames += u64::from(FRAMES);
            }
            Ok(frames)
        })?;
        let elapsed = start.elapsed();
        let arrived = received(&self.lab.victim)? - before;
        Ok(Arrived { rate: arrived as f64 / elapsed.as_secs_f64(), lost: frames.saturating_sub(arrived) })
    }
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(frame: &[u8], interface: u32) -> Result<Vec<u8>> {
    let words = [0, u32::try_from(frame.len())?, 0, interface, 0, 0];
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}
