//! SYNs that scanners build by themselves: few of them are a scan, and the tool is named.

use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    frames::{V4, syn_with, to, v4_packet},
    lab::{Lab, PATIENCE, SCANNER, SCANNER_INTERFACE, VICTIM, run_within, wait_for},
    scenario::Scenario,
    wire,
};
use serde_json::Value;

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("crafted: nmap -sS of three closed ports is found, and named", three_ports),
        trial("crafted: clients and small stacks that miss three ports are quiet", honest),
        trial("crafted: a forged syn among those of a client changes nothing", forged),
        trial("crafted: a list of one's own names its tools, also after a reload", own_list),
    ]
}

const CONFIG: &str = "[sensor]\npoll_interval = \"100ms\"\n";
/// Where nobody listens.
const CLOSED: [u16; 3] = [7_101, 7_302, 7_503];

fn nmap(lab: &Lab, ports: &str) -> Result<()> {
    let mut scan = lab.scanner.command("nmap");
    scan.args(["-n", "-Pn", "-sS", "--max-retries", "0", "-p", ports, VICTIM]);
    run_within(&mut scan, PATIENCE)
}

/// SYNs with this window, time to live and options, to each of the closed ports.
fn syns(lab: &Lab, window: u16, ttl: u8, options: &[u8]) -> Result<()> {
    let addresses = (SCANNER.parse::<Ipv4Addr>()?, VICTIM.parse::<Ipv4Addr>()?);
    let mac = lab.victim_mac_bytes()?;
    let frames: Vec<_> = CLOSED
        .into_iter()
        .map(|port| {
            let mut segment = syn_with(options, port);
            segment[14..16].copy_from_slice(&window.to_be_bytes());
            let with = V4 {
                protocol: 6,
                source: Some(addresses.0),
                destination: Some(addresses.1),
                ..V4::default()
            };
            let mut frame = to(mac, &v4_packet(&with, &segment));
            frame[22] = ttl;
            fix_checksum(&mut frame);
            frame
        })
        .collect();
    wire::send(&lab.scanner, SCANNER_INTERFACE, &frames)
}

/// The checksum of an IPv4 header without options, after a change.
fn fix_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn three_ports() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        nmap(lab, "7101,7302,7503")?;
        let found = wait_for("a finding", PATIENCE, || agent.findings().into_iter().next())?;
        ensure!(found["rule"] == "sequential_test" && found["source"]["ip"] == SCANNER, "{found}");
        ensure!(found["confidence"] != "high", "{found}");
        ensure!(found["spoofable"].as_str().context("a text")?.starts_with("yes"), "{found}");
        let crafted = &found["crafted"];
        ensure!(crafted["syns"] == 3 && crafted["missed"] == 3, "{found}");
        ensure!(crafted["tools"].to_string().contains("nmap"), "{found}");
        let reason = found["reason"].as_str().context("a text")?;
        ensure!(reason.contains("nmap") && reason.contains("which anybody can imitate"), "{reason}");
        Ok(())
    })
}

fn honest() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        lab.scanner.enter(|| {
            for port in CLOSED.repeat(5) {
                ensure!(TcpStream::connect((VICTIM, port)).is_err(), "{port} is open");
            }
            Ok(())
        })?;
        // lwIP; the chips of WIZnet.
        for (window, ttl) in [(5_840, 255), (2_144, 255), (11_680, 64), (2_048, 255), (2_048, 128)] {
            syns(lab, window, ttl, &[2, 4, 5, 0xb4])?;
        }
        let metrics = agent.settled()?;
        ensure!(metrics.exit("probe") >= 30.0, "they were not counted");
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        Ok(())
    })
}

fn forged() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        lab.scanner.enter(|| {
            for port in CLOSED.repeat(2) {
                ensure!(TcpStream::connect((VICTIM, port)).is_err(), "{port} is open");
            }
            Ok(())
        })?;
        syns(lab, 1_024, 50, &[2, 4, 5, 0xb4])?;
        agent.settled()?;
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        Ok(())
    })
}

fn own_list() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--format", "json"]);
    let list = scenario.lab.victim.directory().join("syns.txt");
    let write = |lines: &str| -> Result<()> { Ok(std::fs::write(&list, lines)?) };
    write("64240_2-4-8-1-3_*_* a client of this system\n")?;
    scenario.configure(&format!("{CONFIG}[fingerprints]\nsyn = {:?}\n", list.display().to_string()))?;
    scenario.run(|lab, agent| {
        nmap(lab, "7101,7302,7503")?;
        agent.settled()?;
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        write("*_2_1460_00,!df my own scanner\n")?;
        agent.order(&["reload"])?;
        // With another list, the first look at a source finds out what it had sent before.
        nmap(lab, "7101")?;
        agent.settled()?;
        nmap(lab, "7104-7116")?;
        let named = |finding: &Value| finding["crafted"]["tools"] == serde_json::json!(["my own scanner"]);
        let found = wait_for("a finding", PATIENCE, || agent.findings().into_iter().find(named))?;
        ensure!(found["rule"] == "sequential_test", "{found}");
        Ok(())
    })
}
