//! Handshakes that are aborted, as the sockets of the real kernel know them.

use std::net::{IpAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    clients::{ask_and_forget, at, serve, visit},
    lab::{PATIENCE, SCANNER, VICTIM, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("aborted handshakes are counted, and spoofable whatever was completed", aborted),
        trial("a connection that this host asked for in vain is no aborted handshake", refused),
    ]
}

const CONFIG: &str = "[sensor]\npoll_interval = \"100ms\"\n[findings]\nquiet = \"1s\"\n";

fn aborted() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    let services = 7001..=7008;
    let _servers = serve(&scenario.lab.victim, services.clone())?;
    scenario.run(|lab, agent| {
        lab.scanner.enter(|| {
            visit(at(VICTIM, 7001))?;
            services
                .zip(20_000..)
                .try_for_each(|(port, from)| ask_and_forget(SCANNER, from, at(VICTIM, port)))
        })?;
        let closed = wait_for("the finding is over", PATIENCE, || {
            agent.findings().into_iter().find(|finding| finding["event"] == "closed")
        })?;
        ensure!(closed["rule"] == "half_open_scan" && closed["source"]["ip"] == SCANNER, "{closed}");
        ensure!(closed["aborted"] == 8 && closed["completed"] == 1, "{closed}");
        ensure!(closed["reached"]["open"] == 9 && closed["confidence"] == "medium", "{closed}");
        ensure!(closed["spoofable"].as_str().context("a text")?.starts_with("yes"), "{closed}");
        Ok(())
    })
}

fn refused() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    let lab = &scenario.lab;
    let _servers = serve(&lab.victim, [7001])?;
    let mut agent = scenario.start()?;
    // Only a source that has sent probes is kept, and so many that the rule looks at it.
    lab.scanner.enter(|| (0..10).try_for_each(|_| Ok(visit(at(VICTIM, 7001))?)))?;
    let before = agent.settled()?.exit("tcp_reset");
    lab.victim.enter(|| {
        let refuses = SCANNER.parse::<IpAddr>()?;
        for port in 7001..=7020 {
            ensure!(TcpStream::connect((refuses, port)).is_err(), "{port} is open");
        }
        Ok(())
    })?;
    let resets = agent.settled()?.exit("tcp_reset") - before;
    ensure!(resets >= 20.0, "{resets} resets came");
    agent.end()?;
    // That this host asks for so much in vain is told of the process.
    let mut findings = agent.findings();
    findings.retain(|finding| finding["direction"] == "inbound");
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(())
}
