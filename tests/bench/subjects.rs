//! The rows of `cargo xtask bench`: packets, and the programs that they are run through.

use std::{net::IpAddr, os::fd::AsFd as _, thread};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, Xdp};
use etherparse::EtherType;
use scanguard::content::sampling::{Budgets, Settings as Sampling};
use scanguard::sensor::{
    Feed as _, Sensor as _,
    connections::Ground,
    gate::GateMode,
    program::KernelLogLevel,
    settings::{Mode, Settings},
    test_run::{self, TestRunSensor},
};
use scanguard_common::{
    abi,
    parse::deep::{MAX_EXTENSIONS, MAX_TAGS},
    sample::Budget,
};
use scanguard_tests::fixtures::{
    frames::{SOURCE, V4, chain, ethernet, icmp, long_extension, tagged, tcp, udp, v4, v4_packet, v6},
    program,
};

use crate::{
    c_programs::{self, Fresh},
    packets::{Measure, Subject, nanoseconds},
};

/// `enum xdp_action`, include/uapi/linux/bpf.h.
const XDP_DROP: u32 = 1;

/// All rows; those that are compared are measured one after the other.
pub(crate) fn all() -> Vec<Subject> {
    vec![
        empty(),
        c_programs::parse(),
        same_packet("tcp_established", v4(6, &tcp(0x10, 443))),
        same_packet("tcp6_established", v6(6, &tcp(0x10, 443))),
        same_packet("arp", ethernet(EtherType::ARP, &[0; 46])),
        c_programs::syn_known(),
        same_packet("syn_known", v4(6, &tcp(0x02, 443))),
        same_packet("syn6_known", v6(6, &tcp(0x02, 443))),
        c_programs::syn_new(),
        new_sources(),
        c_programs::dropped(),
        dropped(),
        same_packet("icmp_echo", v4(1, &icmp(8))),
        same_packet("udp", v4(17, &udp(40_000, 161, b"snmp"))),
        same_packet("syn_behind_3_tags", behind_tags(3)),
        same_packet("syn_behind_375_tags", behind_tags(MAX_TAGS)),
        same_packet("syn6_behind_2048_bytes_of_options", v6(60, &long_extension(6, &tcp(0x02, 443)))),
        same_packet("syn6_behind_184_headers", v6(60, &chain(MAX_EXTENSIONS, 6, &tcp(0x02, 443)))),
        unsampled("tcp_data_sampling_off", data(22), &Sampling { enabled: false, ..Sampling::default() }),
        unsampled("tcp_data_unsampled_port", data(22), &Sampling::default()),
        unsampled("tls_data_no_match", with(443, &[0x17, 3, 3, 4, 0]), &Sampling::default()),
        unsampled("tcp_data_no_match", data(443), &Sampling::default()),
        unsampled("http_over_budget", request(), &Sampling { source_budget: 1, ..Sampling::default() }),
        http_sampled(),
        by_tc("tc_established", v4(6, &tcp(0x10, 443))),
        by_tc("tc_syn_known", v4(6, &tcp(0x02, 443))),
        egress_empty(),
        egress_data(),
        egress_no_match(),
        egress_datagram("egress_datagram_of_service", 123, 40_000),
        egress_datagram("egress_datagram", 40_000, 53),
    ]
}

/// A SYN behind so many VLAN tags.
fn behind_tags(count: usize) -> Vec<u8> {
    let packet = v4_packet(&V4 { protocol: 6, ..V4::default() }, &tcp(0x02, 443));
    tagged(&vec![EtherType::VLAN_TAGGED_FRAME; count], EtherType::IPV4, &packet)
}

fn empty() -> Subject {
    Subject::of("empty", || {
        let (program, frame) = (program::empty()?, v4(6, &tcp(0x10, 443)));
        let run = move |packets| Ok(test_run::measure(program.as_fd(), &frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// One frame, again and again.
fn same_packet(name: &'static str, frame: Vec<u8>) -> Subject {
    Subject::of(name, || {
        let loaded = program::load(&Settings::default())?;
        // Everything is known that is to be known.
        loaded.measure(&frame, 1_000)?;
        let run = move |packets| Ok(loaded.measure(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// Every SYN from a source that was never seen, whatever the program makes of it. A round is an epoch, as the agent's polls
/// make them. What it costs to give the frame a new source is measured in the same round, and taken off.
fn new_sources() -> Subject {
    Subject::of("syn_new", || {
        let (mut sensor, program) = sensor()?;
        // As the agent sets it.
        let free_entries = Settings::default().free_entries(thread::available_parallelism()?.get());
        sensor.kernel.set_free_entries(free_entries)?;
        let (fresh, nothing) = (Fresh::before(&program)?, Fresh::before_nothing()?);
        let (empty, frame) = (program::empty()?, v4(6, &tcp(0x02, 443)));
        // A table that is full stays so.
        fresh.run(&frame, 2 * abi::DEFAULT_MAX_SOURCES)?;
        Ok(Box::new(move |packets| {
            sensor.kernel.poll(&mut |_, _, _| {})?;
            let before = nanoseconds(packets, &|packets| nothing.run(&frame, packets))?;
            let start =
                nanoseconds(packets, &|packets| Ok(test_run::measure(empty.as_fd(), &frame, packets)?))?;
            let both = nanoseconds(packets, &|packets| fresh.run(&frame, packets))?;
            Ok(both - (before - start))
        }) as Measure)
    })
}

/// A packet of a banned source.
fn dropped() -> Subject {
    Subject::of("dropped", || {
        let mut loaded = program::load(&Settings::default())?;
        loaded.kernel.set_gate(GateMode::Enforce, false)?;
        loaded.kernel.ban(IpAddr::from(SOURCE).into(), None, true)?;
        let frame = v4(6, &tcp(0x02, 443));
        let verdict = loaded.run(&frame, 1)?.verdict;
        ensure!(verdict == XDP_DROP, "verdict {verdict}: the ban does not drop");
        let run = move |packets| Ok(loaded.measure(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// The loaded sensor with its program.
fn sensor() -> Result<(TestRunSensor, ProgramFd)> {
    let ebpf = scanguard::sensor::program::load(
        &Settings::default(),
        &Sampling::default(),
        program::SALT,
        KernelLogLevel(0),
        &Ground::of_kernel()?,
    )?;
    let xdp: &Xdp = ebpf.program(abi::PROGRAM).context(abi::PROGRAM)?.try_into()?;
    let program = xdp.fd()?.try_clone()?;
    Ok((TestRunSensor::new(ebpf, Settings::default().ipv6_prefix)?, program))
}

/// An ordinary segment that leaves.
fn outgoing() -> Vec<u8> {
    v4(6, &[tcp(0x18, 40_000), vec![0; 1_000]].concat())
}

/// A segment of a connection to this port, with so many bytes behind what it begins with.
fn with(port: u16, beginning: &[u8]) -> Vec<u8> {
    v4(6, &[tcp(0x18, port), beginning.to_vec(), vec![b'x'; 1_000]].concat())
}

/// The middle of a text that is uploaded: what looks most like the beginning of something.
fn data(port: u16) -> Vec<u8> {
    with(port, b"and so on")
}

/// A request as long as those of gobuster.
fn request() -> Vec<u8> {
    let request = b"GET /administrator HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: gobuster/3.6\r\n\
                    Accept-Encoding: gzip\r\n\r\n";
    v4(6, &[tcp(0x18, 80).as_slice(), request].concat())
}

/// A segment with data, again and again, of which no sample is taken.
fn unsampled(name: &'static str, frame: Vec<u8>, content: &Sampling) -> Subject {
    Subject::of(name, || {
        let loaded = program::load_sampling(&Settings::default(), content)?;
        loaded.measure(&frame, 1_000)?;
        let run = move |packets| Ok(loaded.measure(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// As large as budgets are.
const ENDLESS: Budget = Budget { samples: u32::MAX, epochs: 1 };

/// Samples that the ring buffer has room for at once.
const ROOM: u32 = 4_000;

/// A request of which each is sampled. The agent reads along: the ring buffer is emptied, untimed, before it is full.
fn http_sampled() -> Subject {
    Subject::of("http_sampled", || {
        let mut loaded = program::load(&Settings::default())?;
        loaded.kernel.set_samples(Budgets { source: ENDLESS, cpu: ENDLESS })?;
        let frame = request();
        Ok(Box::new(move |packets: u32| {
            let mut sum = 0.0;
            let turns = packets.div_ceil(ROOM);
            for _ in 0..turns {
                // A budget has an end, an epoch another one.
                loaded.kernel.poll(&mut |_, _, _| {})?;
                let sampled = loaded.samples().len();
                sum += nanoseconds(ROOM, &|packets| Ok(loaded.measure(&frame, packets)?))?;
                ensure!(sampled == 0 || sampled == ROOM as usize + 2, "{sampled} samples were taken");
            }
            Ok(sum / f64::from(turns))
        }) as Measure)
    })
}

/// As [`same_packet`], by the program of tc. Compare with `egress_empty`: the kernel's own work for a socket buffer is in
/// both.
fn by_tc(name: &'static str, frame: Vec<u8>) -> Subject {
    Subject::of(name, || {
        let loaded = program::load(&Settings { mode: Mode::Tc, ..Settings::default() })?;
        loaded.measure(&frame, 1_000)?;
        let run = move |packets| Ok(loaded.measure(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

fn egress_empty() -> Subject {
    Subject::of("egress_empty", || {
        let (program, frame) = (program::empty_egress()?, outgoing());
        let run = move |packets| Ok(test_run::measure(program.as_fd(), &frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

fn egress_data() -> Subject {
    Subject::of("egress_data", || {
        let (loaded, frame) = (program::load(&Settings::default())?, outgoing());
        let run = move |packets| Ok(loaded.measure_egress(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// The middle of a page that leaves from a port of HTTP.
fn egress_no_match() -> Subject {
    Subject::of("egress_no_match", || {
        let mut segment = tcp(0x18, 40_000);
        segment[..2].copy_from_slice(&80u16.to_be_bytes());
        let frame = v4(6, &[segment, vec![b'x'; 1_000]].concat());
        let loaded = program::load(&Settings::default())?;
        let run = move |packets| Ok(loaded.measure_egress(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// A datagram of this host. One that is no service's answer makes its flow known.
fn egress_datagram(name: &'static str, from: u16, to: u16) -> Subject {
    Subject::of(name, move || {
        let loaded = program::load(&Settings::default())?;
        let frame = v4(17, &udp(from, to, &[7; 200]));
        let run = move |packets| Ok(loaded.measure_egress(&frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}
