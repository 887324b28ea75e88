//! `sensor.mode = "auto"`: native mode, then tc, then generic mode, found out before the programs are loaded.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::outcome::Exit;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN},
        capture::Capture,
        lab::{
            Lab, Namespace, PATIENCE, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run_within,
            wait_for,
        },
        pinned::Bpffs,
        root,
        scenario::Scenario,
    },
    tables::scans::SCANS,
};

use crate::{
    above::{BRIDGE, bridge},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("auto: a card with native mode is watched in it, with the program that counts", native),
        trial("auto: a bridge has no native mode, so it goes by tc, and says why", of_a_bridge),
        trial("auto: a macvlan goes by tc", of_a_macvlan),
        trial("auto: a VLAN device goes by tc, and its frames are seen without their tag", of_a_vlan)
            .with_kind("root; a kernel with VLAN devices (8021q)")
            .with_ignored_flag(!root::is_root() || !has_vlans()),
        trial("auto: a card goes by tc, too, beside a bridge", mixed),
        trial(
            "auto: without an Ethernet header none goes by tc: native and generic mode, each as it can",
            bare,
        ),
        trial("auto: an interface that comes later is watched in generic mode, if it has no other", late),
        trial("auto: the next agent takes over in native mode and by tc", persists),
    ]
}

/// An agent at these interfaces.
fn watching<'l>(lab: &'l Lab, interfaces: &[&str]) -> Result<Agent<'l>> {
    let mut arguments = vec!["run", "--mode", "auto", "--listen", LISTEN, "--format", "json"];
    arguments.extend(interfaces.iter().flat_map(|interface| ["--iface", *interface]));
    Agent::start_with(&lab.victim, &arguments)
}

/// The mode of an interface as the metrics have it, which must be one.
fn mode(agent: &Agent<'_>, interface: &str) -> Result<&'static str> {
    let modes = agent.metrics()?.modes(interface);
    ensure!(modes.len() == 1, "{interface}: {modes:?}: {}", agent.said());
    Ok(modes[0])
}

/// The mode of an interface, and the line below it, as `scanguard status` has them.
fn told(agent: &Agent<'_>, interface: &str) -> Result<String> {
    let said = agent.order(&["status"])?;
    let mut lines = said.lines().skip_while(|line| !line.contains(&format!("{interface}:")));
    Ok(lines.by_ref().take(2).collect::<Vec<_>>().join("\n"))
}

/// A scan of an address is found, and what the sensor counts is what tcpdump sees by the interface.
fn counts(lab: &Lab, agent: &Agent<'_>, interface: &str, address: &str) -> Result<()> {
    let mut capture = Capture::start(&lab.victim, interface)?;
    let before = agent.settled()?;
    let mut scan = lab.scanner.command("nmap");
    run_within(scan.args(["-n", "-Pn", "-sS", "-p", "100-299", address]), PATIENCE)?;
    wait_for("the finding", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))?;
    let after = agent.settled()?;
    capture.stop()?;
    let (seen, captured) = (after.packets() - before.packets(), capture.count("")?);
    ensure!(seen == captured as f64, "the sensor saw {seen} packets, tcpdump {captured}");
    let (probes, syns) =
        (after.probes("syn") - before.probes("syn"), capture.count("tcp[tcpflags] == tcp-syn")?);
    ensure!(probes == syns as f64 && probes >= 200.0, "{probes} SYNs, of {syns}");
    ensure!(after.exit(Exit::NotIp.label()) - before.exit(Exit::NotIp.label()) < 10.0, "not IP");
    Ok(())
}

fn native() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = watching(&lab, &[VICTIM_INTERFACE])?;
    ensure!(mode(&agent, VICTIM_INTERFACE)? == "native" && lab.xdp_programs()?.len() == 1);
    ensure!(!told(&agent, VICTIM_INTERFACE)?.contains("no native mode"), "{}", agent.said());
    counts(&lab, &agent, VICTIM_INTERFACE, VICTIM)?;
    agent.end()?;
    ensure!(lab.xdp_programs()?.is_empty(), "something is left");
    Ok(())
}

/// By tc, with the reason in the log and in the status.
fn is_by_tc(agent: &Agent<'_>, interface: &str) -> Result<()> {
    ensure!(mode(agent, interface)? == "tc", "{}", agent.said());
    for said in [agent.said(), told(agent, interface)?] {
        ensure!(said.contains("no native mode") && said.contains("by tc"), "{said}");
    }
    Ok(())
}

fn of_a_bridge() -> Result<()> {
    let lab = Lab::new()?;
    bridge(&lab)?;
    let mut agent = watching(&lab, &[BRIDGE])?;
    is_by_tc(&agent, BRIDGE)?;
    counts(&lab, &agent, BRIDGE, VICTIM)?;
    agent.end()?;
    let mut doctor = Agent::spawn(&lab.victim, &["doctor", "--iface", BRIDGE])?;
    doctor.exit_code()?;
    let report = doctor.lines().join("\n");
    // It is asked about native mode, the default.
    ensure!(report.contains("no native mode") && report.contains("--mode auto goes by tc"), "{report}");
    Ok(())
}

/// An interface above the card that has the victim's address.
fn above(lab: &Lab, kind: &str) -> Result<()> {
    let peer = lab.scanner.mac(SCANNER_INTERFACE)?;
    for command in [
        format!("addr del {VICTIM}/24 dev {VICTIM_INTERFACE}"),
        format!("link add link {VICTIM_INTERFACE} name above0 type {kind}"),
        format!("addr add {VICTIM}/24 dev above0"),
        "link set above0 up".to_owned(),
        format!("neigh replace {SCANNER} lladdr {peer} dev above0 nud permanent"),
    ] {
        lab.victim.ip(&command)?;
    }
    Ok(())
}

fn of_a_macvlan() -> Result<()> {
    let lab = Lab::new()?;
    above(&lab, "macvlan mode bridge")?;
    let mac = lab.victim.mac("above0")?;
    lab.scanner.ip(&format!("neigh replace {VICTIM} lladdr {mac} dev {SCANNER_INTERFACE} nud permanent"))?;
    let mut agent = watching(&lab, &["above0"])?;
    is_by_tc(&agent, "above0")?;
    counts(&lab, &agent, "above0", VICTIM)?;
    agent.end()
}

/// Whether the kernel has VLAN devices.
fn has_vlans() -> bool {
    let added = |host: Namespace| host.ip("link add link lo name above0 type vlan id 5");
    Namespace::new("vlans").and_then(added).is_ok()
}

fn of_a_vlan() -> Result<()> {
    const ADDRESS: &str = "10.79.0.1";
    let lab = Lab::new()?;
    let vlan = |interface: &str| format!("link add link {interface} name above0 type vlan id 5");
    lab.victim.ip(&vlan(VICTIM_INTERFACE))?;
    lab.scanner.ip(&vlan(SCANNER_INTERFACE))?;
    for (host, address) in [(&lab.victim, ADDRESS), (&lab.scanner, "10.79.0.2")] {
        host.ip(&format!("addr add {address}/24 dev above0"))?;
        host.ip("link set above0 up")?;
    }
    let mut agent = watching(&lab, &["above0"])?;
    is_by_tc(&agent, "above0")?;
    counts(&lab, &agent, "above0", ADDRESS)?;
    agent.end()
}

fn mixed() -> Result<()> {
    let lab = Lab::new()?;
    lab.victim.ip(&format!("link add {BRIDGE} type bridge"))?;
    lab.victim.ip(&format!("link set {BRIDGE} up"))?;
    let mut agent = watching(&lab, &[VICTIM_INTERFACE, BRIDGE])?;
    is_by_tc(&agent, BRIDGE)?;
    ensure!(mode(&agent, VICTIM_INTERFACE)? == "tc" && lab.xdp_programs()?.is_empty(), "{}", agent.said());
    let why = told(&agent, VICTIM_INTERFACE)?;
    ensure!(why.contains("all interfaces go the same way") && why.contains(BRIDGE), "{why}");
    counts(&lab, &agent, VICTIM_INTERFACE, VICTIM)?;
    agent.end()
}

fn bare() -> Result<()> {
    let lab = Lab::new()?;
    lab.victim.ip("tuntap add dev tun0 mode tun")?;
    lab.victim.ip("link set tun0 up")?;
    lab.victim.ip(&format!("link add {BRIDGE} type bridge"))?;
    let mut agent = watching(&lab, &[VICTIM_INTERFACE, "tun0", BRIDGE])?;
    ensure!(mode(&agent, VICTIM_INTERFACE)? == "native", "{}", agent.said());
    for interface in ["tun0", BRIDGE] {
        ensure!(mode(&agent, interface)? == "generic", "{}", agent.said());
        let why = told(&agent, interface)?;
        ensure!(why.contains("not by tc: tun0: its packets have no Ethernet header"), "{why}");
    }
    counts(&lab, &agent, VICTIM_INTERFACE, VICTIM)?;
    agent.end()
}

fn late() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = watching(&lab, &[VICTIM_INTERFACE, BRIDGE])?;
    ensure!(mode(&agent, VICTIM_INTERFACE)? == "native", "{}", agent.said());
    lab.victim.ip(&format!("link add {BRIDGE} type bridge"))?;
    wait_for("the bridge is watched", PATIENCE, || mode(&agent, BRIDGE).ok())?;
    ensure!(mode(&agent, BRIDGE)? == "generic", "{}", agent.said());
    let why = told(&agent, BRIDGE)?;
    ensure!(why.contains("no native mode") && why.contains("tc is tried at the start only"), "{why}");
    agent.end()
}

fn persists() -> Result<()> {
    let bpffs = Bpffs::mount()?;
    let scenario = Scenario::new(&format!(
        "[sensor]\nmode = \"auto\"\npersist = true\npin = \"{}\"\n",
        bpffs.pin().display()
    ))?;
    let lab = &scenario.lab;
    let first = scenario.run(|lab, agent| {
        ensure!(mode(agent, VICTIM_INTERFACE)? == "native", "{}", agent.said());
        lab.xdp_programs()
    })?;
    ensure!(first.len() == 1 && lab.xdp_programs()? == first, "it did not stay");
    scenario.run(|lab, agent| {
        ensure!(mode(agent, VICTIM_INTERFACE)? == "native", "{}", agent.said());
        ensure!(agent.said().contains("took over"), "{}", agent.said());
        let now = lab.xdp_programs()?;
        ensure!(now.len() == 1 && now != first, "{first:?} {now:?}");
        SCANS[0].run(lab)?;
        wait_for("the finding", PATIENCE, || (!agent.findings().is_empty()).then_some(()))
    })?;
    // Now there is a bridge, too, and all go by tc; the next one finds that.
    lab.victim.ip(&format!("link add {BRIDGE} type bridge"))?;
    let scenario = scenario.with(&["--iface", BRIDGE]);
    for said in ["by tc", "took over"] {
        scenario.run(|lab, agent| {
            ensure!(
                mode(agent, VICTIM_INTERFACE)? == "tc" && mode(agent, BRIDGE)? == "tc",
                "{}",
                agent.said()
            );
            ensure!(lab.xdp_programs()?.is_empty(), "the program of XDP would count once more");
            ensure!(agent.said().contains(said), "{}", agent.said());
            Ok(())
        })?;
    }
    Ok(())
}
