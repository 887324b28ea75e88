//! `cargo xtask bench --latency`: from the packet that crosses a threshold to the finding, while masscan runs at full
//! speed. A measurement, never a test.

use std::{net::Ipv4Addr, process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    frames::{V4, tcp, to, v4_packet},
    lab::{Lab, Process, SCANNER_INTERFACE, VICTIM},
    wire,
};

/// Sources that scan, one after the other.
const SOURCES: u8 = 200;
/// Ports that each of them tries: more than any rule needs.
const PORTS: u16 = 40;
/// Packets a second that masscan is asked to send.
const RATE: &str = "150000";

/// Measures and prints.
pub(crate) fn run() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab.victim, &["--format", "json"])?;
    let quiet = agent.metrics()?;
    let mut masscan = lab.scanner.command("masscan");
    masscan
        .args(["--interface", SCANNER_INTERFACE, "--adapter-ip", "10.77.0.200", "--router-mac"])
        .arg(lab.victim_mac()?)
        .args(["-p", "0-65535", "--rate", RATE, "--wait", "0", "10.78.0.0/24"]);
    let child = masscan.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let flood = Process::new(child.context("masscan: Debian has it in the package masscan")?);
    thread::sleep(Duration::from_secs(2));
    let mac = lab.victim_mac_bytes()?;
    let victim: Option<Ipv4Addr> = Some(VICTIM.parse()?);
    for source in 1..=SOURCES {
        let with = V4 { protocol: 6, source: Some(Ipv4Addr::new(203, 0, 113, source)), ..V4::default() };
        let frames: Vec<_> = (1..=PORTS)
            .map(|port| to(mac, &v4_packet(&V4 { destination: victim, ..with.clone() }, &tcp(2, port))))
            .collect();
        wire::send(&lab.scanner, SCANNER_INTERFACE, &frames)?;
        thread::sleep(Duration::from_millis(25));
    }
    drop(flood);
    let after = agent.settled()?;
    agent.end()?;
    report(&quiet, &after);
    Ok(())
}

fn report(before: &Metrics, after: &Metrics) {
    let packets = after.packets() - before.packets();
    let found = after.get("scanguard_detection_latency_seconds_count");
    println!("{packets} packets; {found} findings at once, of {SOURCES} scans and masscan's");
    println!(
        "trips {}, lost {}",
        after.get("scanguard_trips_total"),
        after.get("scanguard_trips_lost_total")
    );
    for quantile in [0.5, 0.9, 0.99, 1.0] {
        println!("{:>4} % within {:>7} s", quantile * 100.0, bound(after, found * quantile));
    }
}

/// The bound of the bucket that holds this many.
fn bound(metrics: &Metrics, count: f64) -> String {
    let mut buckets = metrics.buckets("scanguard_detection_latency_seconds");
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.iter().find(|(_, seen)| *seen >= count).map_or_else(|| "?".to_owned(), |(le, _)| le.to_string())
}
