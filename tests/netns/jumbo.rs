//! Frames larger than a page: the driver hands them over in several buffers, of which the program reads the first.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::outcome::Exit;
use scanguard_tests::{
    fixtures::{
        agent::Metrics,
        capture::Capture,
        lab::{PATIENCE, SCANNER_INTERFACE, VICTIM_INTERFACE, run, wait_for},
        scenario::Scenario,
        stage::Stage,
    },
    tables::scans::SCANS,
};

use crate::{egress::FAST, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let modes = ["native", "generic", "tc"];
    modes
        .map(|mode| {
            trial(
                format!("jumbo: with an MTU of 9000, {mode} mode, a scan among bulk transfers is found, nothing is junk"),
                move || jumbo(mode),
            )
        })
        .into()
}

/// Exits of what cannot be read, and of what bulk transfers are not.
const JUNK: [Exit; 6] = [
    Exit::TruncatedEthernet,
    Exit::TruncatedIp,
    Exit::BadIpVersion,
    Exit::BadIpLength,
    Exit::Fragment,
    Exit::ProtocolOther,
];

fn no_junk(page: &Metrics) -> Result<()> {
    for exit in JUNK {
        let count = page.exit(exit.label());
        ensure!(count == 0.0, "{count} packets are {}", exit.label());
    }
    Ok(())
}

fn jumbo(mode: &str) -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&["--mode", mode, "--format", "json"]);
    let ends = [(&scenario.lab.victim, VICTIM_INTERFACE), (&scenario.lab.scanner, SCANNER_INTERFACE)];
    for (host, interface) in ends {
        host.ip(&format!("link set {interface} mtu 9000"))?;
    }
    let mut stage = Stage::new(&scenario.lab)?;
    stage.start("iperf3", &scenario.lab.victim, "iperf3 -s")?;
    stage.await_port("iperf3", &scenario.lab.victim, 5201)?;
    scenario.run(|lab, agent| {
        let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
        // Segments as the stack merges them, then as they are on a wire.
        for merged in ["on", "off"] {
            for (host, interface) in ends {
                run(host.command("ethtool").args(["-K", interface, "tso", merged, "gso", merged]))?;
            }
            for transfer in ["iperf3 -c {victim} -n 20M", "iperf3 -c {victim} -n 20M -R"] {
                stage.client(transfer)?;
            }
        }
        let bulk = agent.settled()?;
        capture.stop()?;
        let large = capture.count("greater 9000 and less 9014")?;
        ensure!(large > 1000, "{large} jumbo frames");
        no_junk(&bulk)?;
        let (seen, captured) = (bulk.packets(), capture.count("")?);
        ensure!(seen == captured as f64, "the sensor saw {seen} packets, tcpdump {captured}");
        ensure!(bulk.exit("tcp_established") >= large as f64, "{}", bulk.exit("tcp_established"));
        ensure!(agent.opened().is_empty(), "{:?}", agent.opened());

        // Probes that are as large.
        let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
        for probes in ["-S -p 90", "--udp -p 90"] {
            let arguments = format!("-c 20 -i u1000 -q -d 8000 {probes} 10.77.0.1");
            // It fails when nobody answers.
            let _ = run(lab.scanner.command("hping3").args(arguments.split(' ')));
        }
        let probed = agent.settled()?;
        capture.stop()?;
        for (class, filter) in [("syn", "tcp[tcpflags] == tcp-syn"), ("udp", "udp")] {
            let sent = capture.count(&format!("{filter} and greater 8000"))?;
            let counted = probed.probes(class) - bulk.probes(class);
            ensure!(sent == 20 && counted == 20.0, "{class}: {sent} of 20 were sent, {counted} counted");
        }
        no_junk(&probed)?;

        SCANS[0].run(lab)?;
        let is_found =
            || agent.findings().iter().any(|finding| finding["rule"] == "vertical_scan").then_some(());
        wait_for("the finding", PATIENCE, is_found)?;
        Ok(())
    })
}
