//! Clients that come back to services which are down for a while: they do not look for them.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients::{self, Services, at},
    lab::{Lab, PATIENCE, SCANNER_INTERFACE, VICTIM, wait_for},
};
use socket2::{Domain, Socket, Type};

use crate::{response::configured, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "monitor: twelve services go down and come back; only a stranger who tries them is found",
        down,
    )]
}

/// Long enough for an answer over a veth pair, and for a second SYN.
const TIMEOUT: Duration = Duration::from_millis(1_500);
const MONITOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

fn ports() -> impl Iterator<Item = u16> {
    (0..12).map(|port| 1_000 + port * 37)
}

fn serve(lab: &Lab) -> Result<Services> {
    clients::serve(&lab.victim, ports())
}

/// One round: connects to each service, and gives how many are there.
fn round(lab: &Lab, from: Ipv4Addr) -> Result<usize> {
    lab.scanner.enter(|| {
        let mut met = 0;
        for port in ports() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&std::net::SocketAddr::new(from.into(), 0).into())?;
            // Closed ports refuse at once, except to a source that the agent shields this host from.
            met += usize::from(socket.connect_timeout(&at(VICTIM, port).into(), TIMEOUT).is_ok());
        }
        Ok(met)
    })
}

/// Waits until the agent has read what was counted until now.
fn polled(agent: &Agent<'_>) -> Result<()> {
    agent.settled().map(drop)
}

/// Whether a source is accused. That somebody who was never seen connects to twelve services and says nothing is told
/// with severity `info`.
fn found(agent: &Agent<'_>, source: Ipv4Addr) -> bool {
    let is_accused = |finding: &serde_json::Value| {
        finding["source"]["ip"] == source.to_string() && finding["severity"] != "info"
    };
    agent.findings().iter().any(is_accused)
}

fn down() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    scenario.lab.scanner.ip(&format!("addr add {STRANGER}/24 dev {SCANNER_INTERFACE}"))?;
    scenario.run(|lab, agent| {
        let services = serve(lab)?;
        for _ in 0..2 {
            ensure!(round(lab, MONITOR)? == 12, "the services are not there");
            polled(agent)?;
        }
        drop(services);
        for _ in 0..3 {
            ensure!(round(lab, MONITOR)? == 0, "the services are still there");
            polled(agent)?;
        }
        ensure!(!found(agent, MONITOR), "the monitor is found while they are down: {:?}", agent.findings());
        ensure!(round(lab, STRANGER)? == 0, "the services are still there");
        wait_for("a finding of the stranger", PATIENCE, || found(agent, STRANGER).then_some(()))?;
        let _services = serve(lab)?;
        for _ in 0..2 {
            ensure!(round(lab, MONITOR)? == 12, "the monitor is not served when they are back");
            polled(agent)?;
        }
        let explained = agent.json(&["explain", &MONITOR.to_string()])?;
        ensure!(explained["response"].is_null() && !found(agent, MONITOR), "{explained}");
        Ok(())
    })
}
