//! `sensor.mode = "tc"`: the program sees packets after the stack has merged segments, beside programs of others.

use anyhow::{Result, ensure};
use aya::programs::TcAttachType;
use libtest_mimic::Trial;
use scanguard_common::outcome::Exit;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN},
        capture::Capture,
        lab::{PATIENCE, VICTIM, VICTIM_INTERFACE, wait_for},
        scenario::Scenario,
        stage::Stage,
    },
    tables::scans::SCANS,
};

use crate::{
    egress::{FAST, take_off},
    lifecycle::refused_in,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("tc: merged segments stay merged, and each is looked at once", merged),
        trial("tc: a banned source is dropped, before the stack answers it", drops),
        trial("tc: the program is attached again when somebody detaches it", detached),
        trial("tc: a link without an Ethernet header is refused, with what to do", bare),
    ]
}

const TC: [&str; 4] = ["--mode", "tc", "--format", "json"];

/// The agent's series for the interface.
fn is_attached(agent: &Agent<'_>) -> bool {
    let series = format!("scanguard_xdp_attached{{interface=\"{VICTIM_INTERFACE}\",mode=\"tc\"}}");
    agent.metrics().is_ok_and(|page| page.get(&series) == 1.0)
}

fn merged() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&TC);
    let mut stage = Stage::new(&scenario.lab)?;
    stage.start("iperf3", &scenario.lab.victim, "iperf3 -s")?;
    stage.await_port("iperf3", &scenario.lab.victim, 5201)?;
    scenario.run(|lab, agent| {
        ensure!(is_attached(agent), "{}", agent.said());
        ensure!(lab.xdp_programs()?.is_empty(), "there is a program of XDP");
        let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
        let before = agent.settled()?;
        stage.client("iperf3 -c {victim} -n 200M")?;
        capture.stop()?;
        let after = agent.settled()?;
        let large = capture.count("greater 10000")?;
        ensure!(large > 100, "{large} merged segments");
        let (seen, captured) = (after.packets() - before.packets(), capture.count("")?);
        ensure!(seen == captured as f64, "the sensor saw {seen} packets, tcpdump {captured}");
        // As many as there would be without: 200 MB in segments of the MTU.
        ensure!(seen < 100_000.0, "{seen} packets");
        for exit in [Exit::TruncatedIp, Exit::BadIpLength, Exit::ProtocolOther, Exit::TcpStray] {
            ensure!(after.exit(exit.label()) == 0.0, "{}", exit.label());
        }
        ensure!(agent.opened().is_empty(), "{:?}", agent.opened());
        Ok(())
    })
}

fn drops() -> Result<()> {
    let scenario = Scenario::new(
        "[sensor]\npoll_interval = \"100ms\"\n[response]\nmode = \"enforce\"\nallow_spoofable = true\n\
         min_confidence = \"low\"\n",
    )?
    .with(&TC);
    scenario.run(|lab, agent| {
        // It is not answered any more after a few ports.
        let scan = "-n -Pn -sS -p 1-100 --max-retries 0 --host-timeout 5s";
        lab.scanner.command("nmap").args(scan.split(' ')).arg(VICTIM).output()?;
        wait_for("the ban", PATIENCE, || {
            agent.metrics().is_ok_and(|page| page.sum("scanguard_bans{") > 0.0).then_some(())
        })?;
        let before = agent.settled()?;
        let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
        let mut ping = lab.scanner.command("ping");
        let pinged = ping.args(["-c", "5", "-i", "0.2", "-W", "1", VICTIM]).output()?;
        ensure!(!pinged.status.success(), "the scanner is answered");
        let after = agent.settled()?;
        let banned = after.exit("banned") - before.exit("banned");
        ensure!(banned >= 5.0, "{banned} dropped");
        answers.stop()?;
        ensure!(answers.count("icmp")? == 0, "the stack has answered");
        Ok(())
    })
}

fn detached() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&TC);
    scenario.run(|lab, agent| {
        ensure!(is_attached(agent), "{}", agent.said());
        take_off(lab, TcAttachType::Ingress)?;
        wait_for("it is noticed", PATIENCE, || agent.said().contains("detached").then_some(()))?;
        wait_for("it is attached again", PATIENCE, || is_attached(agent).then_some(()))?;
        SCANS[0].run(lab)?;
        wait_for("the finding", PATIENCE, || (!agent.findings().is_empty()).then_some(()))
    })
}

fn bare() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    lab.victim.ip("tuntap add dev tun0 mode tun")?;
    lab.victim.ip("link set tun0 up")?;
    let arguments = ["run", "--iface", "tun0", "--mode", "tc", "--listen", LISTEN];
    refused_in(lab, &arguments, 6, &["tun0", "no Ethernet header", "--mode generic"])
}
