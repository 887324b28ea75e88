//! What comes late in flows that this host itself used, and from where it calls others.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    behind,
    lab::{Lab, PATIENCE, SCANNER, SCANNER6, VICTIM, VICTIM6, run_within, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("late: a resolver's answers to closed ports of all kinds are answers", resolver),
        trial("late: a peer's datagrams over ipv6 are, from any port", peer),
        trial("late: the fins of connections that this host gave up are, without egress, too", fins),
        trial("late: what answers this host's own raw scan is no backscatter", raw_scan),
        trial("late: without egress, what a resolver sends to ports of clients is an answer", without_egress),
        trial("late: the port range is what the kernel says, while it changes", range),
        trial("late: passive ftp uses one service, whatever its ports are", passive_ftp),
        trial("late: who connects to as many services that stay is found", services_that_stay),
    ]
}

const FAST: &str = "[sensor]\npoll_interval = \"100ms\"\n";

/// Ports that Linux does not choose by itself, and that nobody has a socket for.
const PORTS: std::ops::Range<u16> = 2_000..2_200;

/// As many flows may share their places in the kernel's table, and then one of two is forgotten
/// (`scanguard_common::used`). With 200 flows in 524,288 places, one pair does so in one run of 26, three in one run of
/// 110,000.
const FORGOTTEN: f64 = 2.0;

/// The victim asks from each of the ports and is gone when the answers come. They come from `answering`, one for each
/// port.
fn ask_and_go(lab: &Lab, remote: &str, service: u16, local: &str) -> Result<UdpSocket> {
    let server = lab.scanner.enter(|| Ok(UdpSocket::bind((remote, service))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    lab.victim.enter(|| {
        for port in PORTS {
            UdpSocket::bind((local, port))?.send_to(b"a question", (remote, service))?;
        }
        Ok(())
    })?;
    Ok(server)
}

/// Answers all that were asked.
fn answer(server: &UdpSocket) -> Result<()> {
    let mut asked = Vec::new();
    for _ in PORTS {
        asked.push(server.recv_from(&mut [0; 64])?.1);
    }
    for client in asked {
        server.send_to(b"an answer that takes its time", client)?;
    }
    Ok(())
}

fn quiet(agent: &Agent<'_>) -> Result<Metrics> {
    let metrics = agent.settled()?;
    ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
    Ok(metrics)
}

fn all(metrics: &Metrics, exit: &str) -> Result<()> {
    let (counted, expected) = (metrics.exit(exit), PORTS.len() as f64 - FORGOTTEN);
    ensure!(counted >= expected, "{counted} of {expected} left by {exit}");
    Ok(())
}

fn resolver() -> Result<()> {
    Scenario::new(FAST)?.run(|lab, agent| {
        let server = ask_and_go(lab, SCANNER, 53, VICTIM)?;
        answer(&server)?;
        let metrics = quiet(agent)?;
        all(&metrics, "late_answer")?;
        ensure!(metrics.probes("udp") <= FORGOTTEN, "{} probes", metrics.probes("udp"));
        // The same to ports from which nobody asked is a scan.
        lab.scanner.enter(|| {
            for port in PORTS {
                server.send_to(b"an answer", (VICTIM, port + 1_000))?;
            }
            Ok(())
        })?;
        wait_for("the scan is found", PATIENCE, || agent.opened().contains_key("udp_scan").then_some(()))
            .map(drop)
    })
}

fn peer() -> Result<()> {
    Scenario::new(FAST)?.run(|lab, agent| {
        answer(&ask_and_go(lab, SCANNER6, 27_015, VICTIM6)?)?;
        all(&quiet(agent)?, "late_answer")
    })
}

fn fins() -> Result<()> {
    const CONNECTIONS: usize = 100;
    Scenario::new(&format!("{FAST}egress = false\n"))?.run(|lab, agent| {
        lab.victim.sysctl("ipv4/tcp_fin_timeout", "1")?;
        lab.victim.sysctl("ipv4/ip_local_port_range", "2000 4000")?;
        let upstream = lab.scanner.enter(|| Ok(TcpListener::bind((SCANNER, 8080))?))?;
        let slow = lab.victim.enter(|| {
            let mut slow = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut stream = TcpStream::connect((SCANNER, 8080))?;
                stream.write_all(b"a request")?;
                let mut accepted = upstream.accept()?.0;
                // With something unread, its end would be a reset.
                accepted.read_exact(&mut [0; 9])?;
                slow.push(accepted);
            }
            // Each stream was closed at the end of its round.
            Ok(slow)
        })?;
        wait_for("this host has forgotten them", PATIENCE, || {
            lab.victim.enter(remembers_connections).is_ok_and(|remembers| !remembers).then_some(())
        })?;
        drop(slow);
        let metrics = quiet(agent)?;
        let late = metrics.exit("late_answer");
        ensure!(late >= CONNECTIONS as f64 - FORGOTTEN, "{late} of {CONNECTIONS}");
        ensure!(metrics.probes("maimon") <= FORGOTTEN, "{} probes", metrics.probes("maimon"));
        // Others never had a connection.
        let mut scan = lab.scanner.command("nmap");
        run_within(scan.args(["-n", "-Pn", "-sM", "-p", "100-199", VICTIM]), PATIENCE)?;
        wait_for("the scan is found", PATIENCE, || agent.opened().contains_key("maimon_scan").then_some(()))
            .map(drop)
    })
}

/// Whether there is still a socket for one of the connections.
fn remembers_connections() -> Result<bool> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
    let port = format!(":{:04X}", 8080);
    Ok(table.lines().any(|line| line.split_whitespace().nth(2).is_some_and(|end| end.ends_with(&port))))
}

fn raw_scan() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    behind::serve(&scenario.lab.scanner, 80)?;
    scenario.run(|lab, agent| {
        let mut scan = lab.victim.command("nmap");
        // Its source port is that of a service: nothing here calls from there.
        run_within(scan.args(["-n", "-Pn", "-sS", "-g", "80", "-p", "80", SCANNER]), PATIENCE)?;
        let metrics = quiet(agent)?;
        ensure!(metrics.exit("late_answer") >= 1.0, "nothing came late");
        ensure!(metrics.probes("syn_ack") + metrics.probes("syn_ack_probe") == 0.0, "an answer is a probe");
        Ok(())
    })
}

fn without_egress() -> Result<()> {
    Scenario::new(&format!("{FAST}egress = false\n"))?.run(|lab, agent| {
        answer(&ask_and_go(lab, SCANNER, 53, VICTIM)?)?;
        all(&quiet(agent)?, "udp_reply")
    })
}

fn range() -> Result<()> {
    Scenario::new(&format!("{FAST}egress = false\n"))?.run(|lab, agent| {
        let server = lab.scanner.enter(|| Ok(UdpSocket::bind((SCANNER, 123))?))?;
        let mut last = agent.settled()?;
        for (range, port, exit) in [
            (None, 5_000, "probe"),
            (Some("1024 65535"), 5_000, "udp_reply"),
            (Some("5000 5000"), 5_000, "udp_reply"),
            (Some("5001 5001"), 5_000, "probe"),
            (Some("32768 60999"), 40_000, "udp_reply"),
        ] {
            if let Some(range) = range {
                lab.victim.sysctl("ipv4/ip_local_port_range", range)?;
                let said = format!("this host calls others from the ports {}", range.replace(' ', "-"));
                wait_for("the agent has seen it", PATIENCE, || agent.said().contains(&said).then_some(()))?;
            }
            server.send_to(b"the time", (VICTIM, port))?;
            let now = agent.settled()?;
            ensure!(now.exit(exit) - last.exit(exit) == 1.0, "{range:?} to {port}: not {exit}");
            last = now;
        }
        Ok(())
    })
}

/// Connects, and has the connection accepted.
fn connect(lab: &Lab, listener: &TcpListener, port: u16) -> Result<()> {
    let _client = lab.scanner.enter(|| TcpStream::connect((VICTIM, port)).context("connect"))?;
    listener.accept().context("accept").map(drop)
}

fn passive_ftp() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    let control = scenario.lab.victim.enter(|| Ok(TcpListener::bind((VICTIM, 21))?))?;
    scenario.run(|lab, agent| {
        connect(lab, &control, 21)?;
        for port in (1_024..).step_by(7).take(60) {
            // One listener for one file.
            let data = lab.victim.enter(|| Ok(TcpListener::bind((VICTIM, port))?))?;
            connect(lab, &data, port)?;
        }
        quiet(agent).map(drop)
    })
}

fn services_that_stay() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    let ports = (1_024..).step_by(7).take(60);
    let listeners = scenario.lab.victim.enter(|| {
        ports.clone().map(|port| Ok((port, TcpListener::bind((VICTIM, port))?))).collect::<Result<Vec<_>>>()
    })?;
    scenario.run(|lab, agent| {
        for (port, listener) in &listeners {
            connect(lab, listener, *port)?;
        }
        let found = || agent.opened().contains_key("service_probe").then_some(());
        wait_for("who probes services is found", PATIENCE, found).map(drop)
    })
}
