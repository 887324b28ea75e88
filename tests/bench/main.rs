//! `cargo xtask bench`: what a packet costs, as BPF_PROG_TEST_RUN measures it. A measurement, never a test.
//!
//! All programs run in one process, in turns, so that a noisy machine is noisy for all of them; what counts
//! are the ratios.

use std::{net::Ipv4Addr, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use scanguard::sensor::{Sensor as _, settings::Settings, test_run};
use scanguard_tests::{
    frames::{V4, icmp, tcp, udp, v4, v4_with, v6},
    program, root,
};

mod latency;

/// Nanoseconds a packet, by kind of packet.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the time from a packet to the finding instead, while masscan runs at full speed.
    #[arg(long)]
    latency: bool,
    /// Rounds; the median of them is shown.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Packets of one kind in a round.
    #[arg(long, default_value_t = 200_000)]
    packets: u32,
}

/// Gives the nanoseconds a packet in one round.
type Measure = Box<dyn FnMut(&Arguments) -> Result<f64>>;

/// What is measured.
struct Subject {
    name: &'static str,
    measure: Measure,
    rounds: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "BPF_PROG_TEST_RUN needs root");
    ensure!(arguments.rounds > 0 && arguments.packets > 0, "at least one round and one packet");
    if arguments.latency {
        return latency::run();
    }
    let mut subjects = subjects()?;
    for _ in 0..arguments.rounds {
        for subject in &mut subjects {
            let nanoseconds = (subject.measure)(&arguments).context(subject.name)?;
            subject.rounds.push(nanoseconds);
        }
    }
    report(&mut subjects, &arguments)
}

fn subjects() -> Result<Vec<Subject>> {
    let empty = program::empty().context("the empty program")?;
    let established = v4(6, &tcp(0x10, 443));
    let mut subjects = vec![Subject {
        name: "empty",
        measure: Box::new(move |arguments| {
            let run = test_run::run(empty.as_fd(), &established, arguments.packets)?;
            Ok(run.duration.as_nanos() as f64)
        }),
        rounds: Vec::new(),
    }];
    let same: [(&str, Vec<u8>); 6] = [
        ("tcp_established", v4(6, &tcp(0x10, 443))),
        ("tcp6_established", v6(6, &tcp(0x10, 443))),
        ("syn_known", v4(6, &tcp(0x02, 443))),
        ("icmp_echo", v4(1, &icmp(8))),
        ("udp", v4(17, &udp(40_000, 161, b"snmp"))),
        ("arp", scanguard_tests::frames::ethernet(etherparse::EtherType::ARP, &[0; 46])),
    ];
    for (name, frame) in same {
        subjects.push(same_packet(name, frame)?);
    }
    subjects.push(new_sources()?);
    subjects.extend(egress()?);
    Ok(subjects)
}

/// An ordinary segment that leaves, and for comparison an empty program of that kind.
fn egress() -> Result<[Subject; 2]> {
    let data = v4(6, &[tcp(0x18, 40_000), vec![0; 1_000]].concat());
    let (empty, empty_data) = (program::empty_egress().context("the empty egress program")?, data.clone());
    let loaded = program::load(&Settings::default())?;
    let empty: Measure = Box::new(move |arguments| {
        let run = test_run::run(empty.as_fd(), &empty_data, arguments.packets)?;
        Ok(run.duration.as_nanos() as f64)
    });
    let data: Measure = Box::new(move |arguments| {
        Ok(loaded.run_egress(&data, false, arguments.packets)?.duration.as_nanos() as f64)
    });
    Ok([("egress_empty", empty), ("egress_data", data)].map(|(name, measure)| Subject {
        name,
        measure,
        rounds: Vec::new(),
    }))
}

/// One frame, again and again.
fn same_packet(name: &'static str, frame: Vec<u8>) -> Result<Subject> {
    let loaded = program::load(&Settings::default())?;
    let measure =
        move |arguments: &Arguments| Ok(loaded.run(&frame, arguments.packets)?.duration.as_nanos() as f64);
    Ok(Subject { name, measure: Box::new(measure), rounds: Vec::new() })
}

/// Every frame from a source that was never seen. The kernel repeats a frame as it is, so each source is a
/// call of its own, which costs more than the program. Hence the same calls are made again when the sources
/// are known: the difference is what the insertion costs, on top of a known source's packet.
fn new_sources() -> Result<Subject> {
    const SOURCES: u32 = 20_000;
    let mut loaded = program::load(&Settings::default())?;
    let frames: Vec<_> = (0..SOURCES)
        .map(|source| {
            let source = Some(Ipv4Addr::from(0x0a00_0000 + source));
            v4_with(&V4 { protocol: 6, source, ..V4::default() }, &tcp(0x02, 443))
        })
        .collect();
    let measure = move |arguments: &Arguments| {
        let once_each = || -> Result<f64> {
            let mut total = 0.0;
            for frame in &frames {
                total += loaded.run(frame, 1)?.duration.as_nanos() as f64;
            }
            Ok(total / f64::from(SOURCES))
        };
        let (new, known) = (once_each()?, once_each()?);
        let hot = loaded.run(&frames[0], arguments.packets)?.duration.as_nanos() as f64;
        let mut sources = Vec::new();
        loaded.poll(&mut |source, _, _| sources.push(*source))?;
        ensure!(sources.len() == frames.len(), "{} sources instead of {}", sources.len(), frames.len());
        for source in sources {
            loaded.forget(&source)?;
        }
        Ok(new - known + hot)
    };
    Ok(Subject { name: "syn_new", measure: Box::new(measure), rounds: Vec::new() })
}

fn report(subjects: &mut [Subject], arguments: &Arguments) -> Result<()> {
    for subject in &mut *subjects {
        subject.rounds.sort_by(f64::total_cmp);
    }
    let median = |subject: &Subject| subject.rounds[subject.rounds.len() / 2];
    let empty = median(&subjects[0]);
    println!("{:<18} {:>10} {:>8} {:>8} {:>14}", "packet", "ns median", "min", "max", "ratio to empty");
    let mut rows = Vec::new();
    for subject in &*subjects {
        let (min, max) = (subject.rounds[0], subject.rounds[subject.rounds.len() - 1]);
        let ratio = median(subject) / empty;
        println!("{:<18} {:>10.0} {min:>8.0} {max:>8.0} {ratio:>14.2}", subject.name, median(subject));
        rows.push(serde_json::json!({
            "name": subject.name,
            "ns_median": median(subject),
            "ns_min": min,
            "ns_max": max,
            "ratio_to_empty": (ratio * 100.0).round() / 100.0,
        }));
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
