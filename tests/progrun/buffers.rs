//! Frames in several buffers: jumbo frames, and what some drivers hand over. Direct access ends with the first of them.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{FRAME_LENGTHS, Sensor as _, settings::Settings};
use scanguard_common::{
    outcome::{Exit, ProbeClass},
    tally::Tally,
    wire::{
        protocol::{TCP, UDP},
        tcp_flags::{ACK, PSH, SYN},
    },
};
use scanguard_tests::{
    fixtures::{
        frames::{tcp, udp, v4, v6},
        program::{self, XDP_PASS},
        root::skipped,
    },
    tables::packets::table,
};

use crate::{Pair, counted, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("buffers: every packet of the table is counted alike when it is padded to several", padded),
        trial(
            "buffers: jumbo packets are classified like others, and one that is cut off is truncated",
            jumbo,
        ),
        trial("buffers: headers are found wherever they are split", first_buffer),
    ]
}

/// The parts that older kernels lack.
const FRAGS: &str = "frags (Linux 5.18)";

/// A frame at an MTU of 9000: three pages.
const JUMBO: usize = 9_014;

fn padded() -> Result<()> {
    if !program::has_frags() {
        return skipped(FRAGS);
    }
    let mut pair = Pair::new(&Settings::default())?;
    for mut case in table() {
        // A shorter frame has no Ethernet header to be padded behind.
        if case.frame.len() >= *FRAME_LENGTHS.start() {
            case.frame.resize(JUMBO, 0);
            pair.count(&case)?;
        }
    }
    pair.compare()
}

/// A header, and as much behind it as makes a packet of 9,000 bytes.
fn filled(mut header: Vec<u8>, ip_len: usize) -> Vec<u8> {
    header.resize(9_000 - ip_len, b'x');
    header
}

/// Runs frames, which both must count alike, and gives the totals.
fn totals(frames: &[Vec<u8>]) -> Result<Tally> {
    let mut pair = Pair::new(&Settings::default())?;
    for frame in frames {
        ensure!(pair.kernel.run(frame, 1)?.verdict == XDP_PASS, "not passed");
        pair.software.packet(frame);
    }
    let (kernel, software) = (counted(&mut pair.kernel)?, counted(&mut pair.software)?);
    ensure!(kernel == software, "the kernel counted {kernel:?}, the software {software:?}");
    Ok(kernel.0.tally)
}

fn jumbo() -> Result<()> {
    if !program::has_frags() {
        return skipped(FRAGS);
    }
    let syn = v4(TCP, &filled(tcp(SYN, 80), 20));
    let syn6 = v6(TCP, &filled(tcp(SYN, 80), 40));
    let datagram = v4(UDP, &udp(40_000, 90, &[b'x'; 8_972]));
    let data = v4(TCP, &filled(tcp(ACK | PSH, 80), 20));
    ensure!(syn.len() == JUMBO && syn6.len() == JUMBO && datagram.len() == JUMBO && data.len() == JUMBO);
    // Its IP header promises one byte more than there is, in the last buffer.
    let cut = syn[..JUMBO - 1].to_vec();
    let tally = totals(&[syn, syn6, datagram, data, cut])?;
    ensure!(tally.probe(ProbeClass::Syn) == 2 && tally.probe(ProbeClass::Udp) == 1, "{tally:?}");
    ensure!(tally.exit(Exit::TcpEstablished) == 1 && tally.exit(Exit::TruncatedIp) == 1, "{tally:?}");
    ensure!(tally.packets() == 5, "{tally:?}");
    Ok(())
}

fn first_buffer() -> Result<()> {
    let mut kernel = program::load(&Settings::default())?;
    let syn = v4(TCP, &filled(tcp(SYN, 80), 20));
    let headers = 14 + 20 + 20;
    // Before Linux 6.18 a test run takes what fits into a page, and nothing less.
    if kernel.run_split(&syn, headers).is_err() {
        println!("this kernel does not split frames where it is asked to");
        return Ok(());
    }
    for first in headers + 1..headers + 8 {
        kernel.run_split(&syn, first)?;
    }
    for first in 14..headers {
        let run = kernel.run_split(&syn, first).with_context(|| format!("{first} bytes"))?;
        ensure!(run.verdict == XDP_PASS, "{first} bytes: not passed");
    }
    let tally = kernel.poll(&mut |_, _, _| {})?.tally;
    ensure!(tally.probe(ProbeClass::Syn) == 48 && tally.packets() == 48, "{tally:?}");
    Ok(())
}
