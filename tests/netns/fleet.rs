//! Many hosts see and act as one, through a real NATS server.

use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, give},
    clients::at,
    fleet::{Fleet, PORT, SERVER},
    lab::{Namespace, PATIENCE, Process, wait_for},
};

use crate::{counts::config_file, lifecycle::refused, trial};

/// Hosts of the fleet. Nine of them find a scan that asks each once.
const HOSTS: usize = 12;
/// How many are asked.
const ASKED: usize = 9;
/// Where no host has a service.
pub(crate) const CLOSED: u16 = 2_323;
/// How long a refusal may take on a busy machine.
const REFUSED: Duration = Duration::from_secs(10);
/// After this time without a refusal, a SYN was dropped, and so was the second one.
const DROPPED: Duration = Duration::from_millis(2_500);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fleet: a scan that asks each host once is found, and all hosts act on it", one_each),
        trial("fleet: members speak for nobody else and decide nothing, and other forms are counted", forged),
        trial("fleet: wrong settings and credentials that others can read are exit code 3", wrong_settings),
    ]
}

/// A host with its agent.
pub(crate) struct Edge<'h> {
    pub(crate) host: &'h Namespace,
    pub(crate) address: &'h str,
    pub(crate) agent: Agent<'h>,
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("edge-{number}")).collect()
}

/// Connects once. It must be refused within the time, or must not.
pub(crate) fn asks(from: &Namespace, address: &str, port: u16, refused: bool) -> Result<()> {
    let timeout = if refused { REFUSED } else { DROPPED };
    let error =
        from.enter(|| TcpStream::connect_timeout(&at(address, port), timeout).err().context("it is open"));
    let error = error?;
    ensure!((error.kind() == std::io::ErrorKind::ConnectionRefused) == refused, "{address}: {error}");
    Ok(())
}

fn shields(edge: &Edge<'_>) -> f64 {
    edge.agent.metrics().map_or(0.0, |page| page.get("scanguard_shields"))
}

/// Waits until all hosts have so many shields. Returns how long that took.
pub(crate) fn wait_for_shields(edges: &[Edge<'_>], count: f64, fleet: &Fleet) -> Result<Duration> {
    let began = Instant::now();
    for edge in edges {
        let there = wait_for("the shield", PATIENCE, || (shields(edge) >= count).then_some(()));
        there.with_context(|| {
            let said = ["run-1", "run-2"].map(|name| fleet.said_by(name).unwrap_or_default());
            format!("{}: {}\n{}\n{}", edge.address, edge.agent.said(), said[0], said[1])
        })?;
    }
    Ok(began.elapsed())
}

fn one_each() -> Result<()> {
    let names = names(HOSTS);
    let mut fleet = Fleet::start(&names, &["run-1", "run-2"])?;
    let first = fleet.run_role("run-1", 9_824)?;
    let _second = fleet.run_role("run-2", 9_825)?;
    let mut hosts = Vec::new();
    for name in &names {
        let (host, address) = fleet.join("edge")?;
        let directory = host.directory().to_owned();
        fs::create_dir(directory.join("spool"))?;
        give(&directory.join("spool"))?;
        let settings = fleet.settings(name, &directory);
        let path = directory.join("scanguard.toml");
        fs::write(&path, format!("[response]\nmode = \"enforce\"\n{settings}"))?;
        hosts.push((host, address, path.display().to_string()));
    }
    let mut edges = Vec::new();
    for (host, address, config) in &hosts {
        let agent = Agent::start(host, &["--config", config])?;
        edges.push(Edge { host, address, agent });
    }
    play(&mut fleet, first, &mut edges)
}

fn play(fleet: &mut Fleet, first: Process, edges: &mut [Edge<'_>]) -> Result<()> {
    for edge in edges.iter() {
        wait_for("it is a member", PATIENCE, || {
            let page = edge.agent.metrics().ok()?;
            (page.get("scanguard_fleet_connected") == 1.0).then_some(())
        })
        .with_context(|| edge.agent.said())?;
    }
    let (scanner, source) = fleet.join("scan")?;
    for edge in edges.iter().take(ASKED - 1) {
        asks(&scanner, edge.address, CLOSED, true)?;
    }
    ensure!(edges.iter().all(|edge| shields(edge) == 0.0), "found too early");
    asks(&scanner, edges[ASKED - 1].address, CLOSED, true)?;
    let took = wait_for_shields(edges, 1.0, fleet)?;
    println!("from the ninth probe to the last of {HOSTS} shields, one look after the other: {took:?}");
    // Also where it never was.
    let last = &edges[HOSTS - 1];
    asks(&scanner, last.address, CLOSED, false).context("not dropped at a host that it never asked")?;
    let bans = last.agent.order(&["bans"])?;
    ensure!(bans.contains("fleet: fleet_sweep"), "{bans}");
    let explained = last.agent.order(&["explain", &source])?;
    ensure!(explained.contains("the fleet (fleet_sweep, decision"), "{explained}");
    let explained = fleet.ask(&["explain", &source], "run-1")?;
    // Those that were asked, and the one where it was tried.
    ensure!(explained.matches("port 2323 closed").count() == ASKED + 1, "{explained}");
    println!("{}{bans}{explained}{}", fleet.ask(&["status"], "run-1")?, last.agent.order(&["status"])?);

    // Who holds the leases is killed: the other takes over within ten seconds, and forgets nothing.
    let (again, _) = fleet.join("scan")?;
    for edge in edges.iter().take(ASKED - 1) {
        asks(&again, edge.address, CLOSED, true)?;
    }
    drop(first);
    let began = Instant::now();
    wait_for("the other has all partitions", Duration::from_secs(10), || {
        let said = fleet.said_by("run-2").ok()?;
        (0..16).all(|partition| said.contains(&format!("partition {partition} is taken"))).then_some(())
    })?;
    println!("taken over after {:?}", began.elapsed());
    asks(&again, edges[ASKED - 1].address, CLOSED, true)?;
    wait_for_shields(edges, 2.0, fleet)?;

    // The server is killed: hosts go on, what they see waits, and is told when it is back. An agent that ends meanwhile
    // keeps it on disk.
    fleet.kill_server();
    let (third, _) = fleet.join("scan")?;
    wait_for("it is missed", PATIENCE, || {
        let page = edges[0].agent.metrics().ok()?;
        (page.get("scanguard_fleet_connected") == 0.0).then_some(())
    })?;
    for edge in edges.iter().take(ASKED) {
        asks(&third, edge.address, CLOSED, true)?;
    }
    asks(&scanner, edges[HOSTS - 1].address, CLOSED, false).context("forgotten without a server")?;
    let page = wait_for("it waits", PATIENCE, || {
        let page = edges[1].agent.metrics().ok()?;
        (page.get("scanguard_fleet_waiting_sightings") >= 1.0).then_some(page)
    })?;
    ensure!(page.get("scanguard_fleet_decisions_total{outcome=\"shielded\"}") >= 2.0, "{page:?}");
    edges[0].agent.end()?;
    ensure!(edges[0].host.directory().join("spool/fleet").exists(), "nothing was kept");
    let config = edges[0].host.directory().join("scanguard.toml").display().to_string();
    edges[0].agent = Agent::start(edges[0].host, &["--config", &config])?;
    fleet.resume()?;
    wait_for_shields(edges, 3.0, fleet)?;
    wait_for("the spool goes when it was told", PATIENCE, || {
        (!edges[0].host.directory().join("spool/fleet").exists()).then_some(())
    })?;
    // What a host finds by itself is told, too.
    let (loud, loud_source) = fleet.join("scan")?;
    loud.enter(|| {
        for port in 1_000..1_040 {
            // A shield drops the last ones.
            let _ = TcpStream::connect_timeout(&at(edges[2].address, port), Duration::from_millis(50));
        }
        Ok(())
    })?;
    let found = format!("edge-3: found vertical_scan of {loud_source}");
    wait_for("the finding", PATIENCE, || {
        let (status, explained) =
            (fleet.ask(&["status"], "run-2").ok()?, fleet.ask(&["explain", &loud_source], "run-2").ok()?);
        (status.contains(&found) && explained.contains(&found)).then_some(())
    })?;
    for edge in edges.iter_mut() {
        edge.agent.end()?;
    }
    Ok(())
}

/// What an enemy says who has a member's credentials.
fn forged() -> Result<()> {
    let fleet = Fleet::start(&names(2), &["run-1"])?;
    let _role = fleet.run_role("run-1", 9_824)?;
    let credentials = fs::read_to_string(fleet.credentials("edge-1"))?;
    let authority = fleet.authority().to_owned();
    let said = fleet.hub.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = ConnectOptions::with_nkey(credentials.trim().to_owned())
                .add_root_certificates(authority)
                .custom_inbox_prefix("_INBOX_edge-1")
                .request_timeout(Some(Duration::from_secs(2)))
                .connect(format!("tls://{SERVER}:{PORT}"))
                .await?;
            let context = async_nats::jetstream::new(client.clone());
            let mut said = Vec::new();
            for (subject, payload) in [
                ("sg.v1.sight.3.edge-2", "{}".to_owned()),
                ("sg.v1.find.3.edge-2", "{}".to_owned()),
                ("sg.v1.decide.x", "{}".to_owned()),
                ("sg.v1.out.x", "{}".to_owned()),
                ("$KV.SG_LEASE.p1", "edge-1".to_owned()),
                ("sg.v1.state.3.head", "{}".to_owned()),
                ("sg.v1.state.3.0.0", "x".to_owned()),
                ("sg.v1.run.edge-1", String::new()),
                ("sg.v1.sight.3.edge-1", "no JSON".to_owned()),
                (
                    "sg.v1.sight.3.edge-1",
                    "{\"v\":1,\"boot\":1,\"n\":1,\"s\":[{\"s\":\"0.0.0.0/0\"}]}".to_owned(),
                ),
                ("sg.v1.sight.3.edge-1", "x".repeat(70_000)),
                ("sg.v1.sight.99.edge-1", "{\"v\":1,\"boot\":1,\"n\":1}".to_owned()),
            ] {
                let sent = context.publish(subject, payload.into()).await;
                let stored = match sent {
                    Ok(ack) => ack.await.is_ok(),
                    Err(_) => false,
                };
                said.push((subject, stored));
            }
            // Nor does it hear what others say, or the answers to them.
            for subject in ["sg.v1.sight.>", "_INBOX_edge-2.>"] {
                let mut heard = client.subscribe(subject).await?;
                client.flush().await?;
                let next = tokio::time::timeout(Duration::from_secs(1), heard.next()).await;
                said.push((subject, matches!(next, Ok(Some(_)))));
            }
            anyhow::Ok(said)
        })
    })?;
    let stored: Vec<_> = said.iter().filter(|(_, stored)| *stored).map(|(subject, _)| *subject).collect();
    ensure!(
        stored == ["sg.v1.sight.3.edge-1", "sg.v1.sight.3.edge-1", "sg.v1.sight.99.edge-1"],
        "the server took {stored:?}"
    );
    let form = "scanguard_fleet_run_faults_total{fault=\"form\"}";
    wait_for("they are counted", PATIENCE, || {
        let (_, page) =
            scanguard_tests::fixtures::agent::get(&fleet.hub, "127.0.0.1:9824", "/metrics").ok()?;
        page.lines().any(|line| line == format!("{form} 2")).then_some(())
    })?;
    Ok(())
}

fn wrong_settings() -> Result<()> {
    // Anybody can read the file of this very test's configuration.
    let open = config_file("SUAIO4CLB2ELZ3Q\n")?;
    for (text, word) in [
        (format!("name = \"a\"\ncredentials_file = \"{}\"", open.path()), "chmod 600"),
        ("name = \"a.b\"".to_owned(), "no dots"),
        ("name = \"a\"".to_owned(), "credentials_file is missing"),
    ] {
        let config = config_file(&format!("[fleet]\nurl = \"tls://127.0.0.1\"\n{text}\n"))?;
        refused(&["run", "--config", &config.path()], 3, &[word])?;
        refused(&["fleet", "run", "--config", &config.path()], 3, &[word])?;
    }
    Ok(())
}
