//! Network cards instead of veth: what modes a card's driver takes, what is counted there, and what it costs. `cargo xtask
//! vm --drivers` runs this in guests that have such cards, and reads the lines that it prints.

use std::{collections::BTreeMap, env, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use scanguard_common::outcome::Exit;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, MODES, Metrics},
        capture::Capture,
        lab::{CARDS, Lab, PATIENCE, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run, wait_for},
        scenario::Scenario,
        stage::Stage,
        wire::Wire,
    },
    tables::{
        packets::{Case, table},
        scans::SCANS,
    },
};

use crate::{counts::is_other_by_tc, egress::FAST, trial};

/// The MTU of both ends.
const MTU: &str = "SCANGUARD_CARDS_MTU";

/// The least that cards send: they fill up what is shorter.
const SHORTEST: usize = 60;

/// Between two frames of the table: some cards have room for 64, and the kernel that empties them is emulated.
const BETWEEN: Duration = Duration::from_millis(5);

/// How many large frames a card may lose, if neither the kernel nor the sensor sees them.
const LOST: usize = 1;

/// Begins the lines that are read.
const MARK: &str = "card:";

/// None where there are no cards.
pub(crate) fn trials() -> Vec<Trial> {
    if env::var_os(CARDS).is_none() {
        return Vec::new();
    }
    vec![trial("card: what it takes, counts and costs", card)]
}

fn card() -> Result<()> {
    let mtu: usize = env::var(MTU).context(MTU)?.parse()?;
    let without = throughput(&connected(mtu, "auto")?.lab)?;
    println!("{MARK} without {without:.0}");
    let mut taken = Vec::new();
    for mode in MODES {
        let scenario = connected(mtu, mode)?;
        let mut agent = match scenario.start() {
            Ok(agent) => agent,
            Err(error) => {
                let reason = refusal(&format!("{error:#}"));
                let then = if is_mended(&scenario, &reason)? { " (done, and it was taken)" } else { "" };
                println!("{MARK} {mode} refused: {reason}{then}");
                continue;
            }
        };
        let outcome = watched(&scenario.lab, &agent, mode, mtu);
        let Seen { frames, packets, megabits } =
            outcome.with_context(|| format!("{mode} mode; the agent has said:\n{}", agent.said()))?;
        println!("{MARK} {mode} taken: table {frames} scan {packets} with {megabits:.0}");
        agent.end()?;
        taken.push(mode);
    }
    let scenario = connected(mtu, "auto")?;
    let mut agent = scenario.start()?;
    let mode = mode_of(&agent.metrics()?)?;
    println!("{MARK} auto takes {mode}");
    agent.end()?;
    ensure!(taken.first() == Some(&mode), "{mode} is not the best of {taken:?}");
    Ok(())
}

/// Two hosts joined by the cards, and how the agent is started.
fn connected(mtu: usize, mode: &str) -> Result<Scenario> {
    let scenario = Scenario::new(FAST)?.with(&["--mode", mode, "--format", "json"]);
    for (host, interface) in
        [(&scenario.lab.victim, VICTIM_INTERFACE), (&scenario.lab.scanner, SCANNER_INTERFACE)]
    {
        host.ip(&format!("link set {interface} mtu {mtu}"))?;
    }
    Ok(scenario)
}

/// The reason in what the agent said, without what else to do.
fn refusal(said: &str) -> String {
    let reason = ["native mode: ", "by tc: ", "scanguard: "].iter().find_map(|begin| said.split_once(begin));
    let reason = reason.map_or(said, |(_, reason)| reason);
    reason.split("; --mode ").next().unwrap_or(reason).replace('\n', " ")
}

/// Does what a refusal says is to be done on this host, if it says that; the agent must start then.
fn is_mended(scenario: &Scenario, reason: &str) -> Result<bool> {
    let Some(arguments) = reason.split('`').find_map(|part| part.strip_prefix("ip ")) else {
        return Ok(false);
    };
    scenario.lab.victim.ip(arguments)?;
    scenario.start().context("it was done what the refusal said")?.end()?;
    Ok(true)
}

fn mode_of(metrics: &Metrics) -> Result<&'static str> {
    metrics.modes(VICTIM_INTERFACE).first().copied().context("no mode")
}

struct Seen {
    frames: usize,
    packets: f64,
    megabits: f64,
}

/// Fails unless the packet table and a scan are counted to the packet, and the scan is found.
fn watched(lab: &Lab, agent: &Agent<'_>, mode: &str, mtu: usize) -> Result<Seen> {
    let frames = table_is_counted(lab, agent, mode, mtu)?;
    let before = agent.settled()?;
    let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
    SCANS[0].run(lab)?;
    capture.stop()?;
    let packets = agent.settled()?.packets() - before.packets();
    let captured = capture.count("")?;
    ensure!(packets == captured as f64, "the sensor saw {packets} packets of the scan, tcpdump {captured}");
    let is_found = |finding: &serde_json::Value| {
        finding["rule"] == "vertical_scan" && finding["source"]["ip"] == SCANNER
    };
    wait_for("the finding", PATIENCE, || agent.findings().iter().any(is_found).then_some(()))
        .with_context(|| format!("{:?}", agent.findings()))?;
    Ok(Seen { frames, packets, megabits: throughput(lab)? })
}

/// Sends the table, as far as the link takes it; each packet must be counted under its exit.
fn table_is_counted(lab: &Lab, agent: &Agent<'_>, mode: &str, mtu: usize) -> Result<usize> {
    let mut cases: Vec<_> = table();
    cases.retain(|case| case.frame.len() >= 14 && case.frame.len() <= mtu + 14);
    cases.retain(|case| mode != "tc" || !is_other_by_tc(case));
    let mut exits = BTreeMap::new();
    for case in &mut cases {
        case.frame.resize(case.frame.len().max(SHORTEST), 0);
        *exits.entry(case.counted().0).or_insert(0u32) += 1;
    }
    let frames: Vec<_> = cases.iter().map(|case| case.frame.clone()).collect();
    let before = agent.settled()?;
    // Many frames are for another address: a card hands them on while tcpdump listens.
    let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
    lab.scanner.enter(|| {
        let wire = Wire::open(SCANNER_INTERFACE)?;
        frames.iter().try_for_each(|frame| {
            thread::sleep(BETWEEN);
            wire.send(frame)
        })
    })?;
    capture.stop()?;
    let after = agent.settled()?;
    let (captured, seen) = (capture.count("")?, after.packets() - before.packets());
    let lost = lost(&capture, &cases)?;
    for case in &lost {
        println!("{MARK} lost {mode}, {} bytes: {}", case.frame.len(), case.name);
        exits.entry(case.counted().0).and_modify(|sent| *sent -= 1);
    }
    let came = frames.len() - lost.len();
    let mut wrong = Vec::new();
    for exit in Exit::ALL {
        let counted = after.exit(exit.label()) - before.exit(exit.label());
        let sent = f64::from(exits.get(&exit).copied().unwrap_or(0));
        if counted != sent {
            wrong.push(format!("{}: sent {sent}, seen {counted}", exit.label()));
        }
    }
    ensure!(
        wrong.is_empty() && seen == came as f64 && captured as usize == came && lost.len() <= LOST,
        "of {} frames the sensor saw {seen}, tcpdump {captured}: {wrong:?}",
        frames.len()
    );
    Ok(came)
}

/// Frames larger than any of Ethernet's that never came, as far as their size tells them from others.
fn lost<'c>(capture: &Capture, cases: &'c [Case]) -> Result<Vec<&'c Case>> {
    let mut lost = Vec::new();
    for case in cases.iter().filter(|case| case.frame.len() > 1518) {
        let length = case.frame.len();
        let is_alone = cases.iter().filter(|other| other.frame.len() == length).count() == 1;
        if is_alone && capture.count(&format!("len = {length}"))? == 0 {
            lost.push(case);
        }
    }
    Ok(lost)
}

/// Megabits in a second, from the scanner to the victim.
fn throughput(lab: &Lab) -> Result<f64> {
    let mut stage = Stage::new(lab)?;
    stage.start("iperf3", &lab.victim, "iperf3 -s")?;
    stage.await_port("iperf3", &lab.victim, 5201)?;
    let output = run(lab.scanner.command("iperf3").args(["-J", "-t", "3", "-c", VICTIM]))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    match report["end"]["sum_received"]["bits_per_second"].as_f64() {
        Some(bits) => Ok(bits / 1e6),
        None => bail!("iperf3 says {report}"),
    }
}
