//! Twenty-four hosts, and zmap, which asks each once.

use std::{fs, thread, time::Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, give},
    fleet::{Fleet, SERVER},
    lab::{Namespace, PATIENCE, run, wait_for},
};

use crate::{
    fleet::{CLOSED, Edge, names, wait_for_shields},
    trial,
};

/// How many there are.
const HOSTS: usize = 24;
/// Where zmap is, behind a router: it sends everything to one hardware address.
const SCANNER: &str = "10.91.0.2";

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("fleet: zmap asks each of 24 hosts once, and all of them act within seconds", zmap)]
}

fn zmap() -> Result<()> {
    let names = names(HOSTS);
    let fleet = Fleet::start(&names, &["run-1"])?;
    let _role = fleet.run_role("run-1", 9_824)?;
    let mut hosts = Vec::new();
    for name in &names {
        let (host, address) = fleet.join("edge")?;
        host.ip(&format!("route add default via {SERVER}"))?;
        let directory = host.directory().to_owned();
        fs::create_dir(directory.join("spool"))?;
        give(&directory.join("spool"))?;
        let path = directory.join("scanguard.toml");
        let settings = fleet.settings(name, &directory);
        fs::write(&path, format!("[response]\nmode = \"enforce\"\n{settings}"))?;
        hosts.push((host, address, path.display().to_string()));
    }
    let start = Instant::now();
    let mut edges = Vec::new();
    // Two at once, or a busy machine makes them late.
    for some in hosts.chunks(2) {
        let started: Result<Vec<_>> = thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|one| scope.spawn(|| begin_one(one))).collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        edges.extend(started?);
    }
    for edge in &edges {
        wait_for("it is a member", PATIENCE, || {
            (edge.agent.metrics().ok()?.get("scanguard_fleet_connected") == 1.0).then_some(())
        })
        .with_context(|| edge.agent.said())?;
    }
    println!("{HOSTS} members after {:?}", start.elapsed());

    let scanner = Namespace::new("zmap")?;
    fleet.hub.join([("zmap0", "10.91.0.1/24"), ("scan0", &format!("{SCANNER}/24"))], &scanner)?;
    fleet.hub.sysctl("ipv4/ip_forward", "1")?;
    let router = fleet.hub.mac("zmap0")?;
    let list = scanner.directory().join("hosts");
    let addresses: Vec<_> = edges.iter().map(|edge| edge.address).collect();
    fs::write(&list, addresses.join("\n") + "\n")?;
    let port = CLOSED.to_string();
    let mut zmap = scanner.command("zmap");
    zmap.args(["-q", "-i", "scan0", "-G", &router, "-S", SCANNER, "-b", "/dev/null"]);
    zmap.args(["-r", "200", "-c", "1", "-p", &port, "-w"]).arg(&list).args(&addresses);
    let began = Instant::now();
    let played = thread::scope(|scope| {
        let scan = scope.spawn(|| run(&mut zmap));
        let there = wait_for_shields(&edges, 1.0, &fleet).map(|_| began.elapsed());
        (scan.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), there)
    });
    played.0?;
    println!("{:?} from the start of zmap to the last of {HOSTS} shields", played.1?);
    let status = fleet.ask(&["status"], "run-1")?;
    ensure!(status.contains(&format!("suspicion of {SCANNER}: fleet_sweep")), "{status}");
    ensure!(status.matches("suspicion of").count() == 1, "one decision: {status}");
    let asked = fleet.ask(&["explain", SCANNER], "run-1")?;
    ensure!(asked.contains("in force: suspicion by fleet_sweep"), "{asked}");
    for edge in &mut edges {
        edge.agent.end()?;
    }
    Ok(())
}

fn begin_one(one: &(Namespace, String, String)) -> Result<Edge<'_>> {
    let (host, address, config) = one;
    Ok(Edge { host, address, agent: Agent::start(host, &["--config", config])? })
}
