//! An instance that takes a partition over goes on from the last snapshot, and does without one.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::fleet::wire::partition;
use scanguard_tests::fixtures::{
    agent,
    fleet::Fleet,
    lab::{PATIENCE, wait_for},
};

use crate::{
    fleet::names,
    fleet_hostile::{PAGE, message, say, sighting, source, sum, wait_for_sightings},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fleet: who takes a partition over goes on from a snapshot and what came after it", snapshot),
        trial("fleet: without the stream of snapshots, the window is read and decided by", none),
    ]
}

/// The other instance's page.
const OTHER: &str = "127.0.0.1:9825";
/// How long nobody may work on a partition.
const GOAL: Duration = Duration::from_secs(10);
/// The same if whoever had it ended orderly: a look, and the time to read.
const ORDERLY: Duration = Duration::from_secs(3);

/// A member saw a source at a port where nothing is.
fn accuse(fleet: &Fleet, member: usize, number: u64, who: &str) -> Result<()> {
    let name = format!("edge-{member}");
    let (subject, text) = message(&name, number, sighting(source(who), &[23], Duration::ZERO, false));
    let said = say(fleet, &name, &[(subject, text, None)])?;
    ensure!(said == [Some(false)], "{name}: {said:?}");
    Ok(())
}

fn snapshots(outcome: &str) -> String {
    format!("scanguard_fleet_run_snapshots_total{{outcome=\"{outcome}\"}}")
}

fn decided() -> &'static str {
    "scanguard_fleet_run_decisions_total{verdict=\"suspicion\"}"
}

/// Waits until an instance has read what there is of all partitions.
fn wait_for_all(fleet: &Fleet, name: &str) -> Result<()> {
    let all =
        |said: &str| (0..16).all(|number| said.contains(&format!("partition {number}: the window is read")));
    wait_for("all partitions", PATIENCE, || fleet.said_by(name).ok().filter(|said| all(said)).map(drop))
        .with_context(|| fleet.said_by(name).unwrap_or_default())
}

fn snapshot() -> Result<()> {
    let who = "203.0.113.9";
    let number = partition(source(who));
    let mut fleet = Fleet::start(&names(9), &["run-1", "run-2"])?;
    let first = fleet.run_role("run-1", 9_824)?;
    wait_for_all(&fleet, "run-1")?;
    accuse(&fleet, 1, 1, who)?;
    wait_for("a snapshot", PATIENCE, || (sum(&fleet, &snapshots("written")) >= 1.0).then_some(()))
        .with_context(|| fleet.said_by("run-1").unwrap_or_default())?;
    for member in 2..=8 {
        accuse(&fleet, member, 1, who)?;
    }
    wait_for_sightings(&fleet, 8.0)?;
    // Only the snapshot knows the first one now.
    let purge = ("$JS.API.STREAM.PURGE.SG_SIGHT".to_owned(), "{\"seq\":2}".to_owned(), None);
    say(&fleet, "run-1", &[purge])?;
    drop(first);
    let began = Instant::now();
    let mut second = fleet.run_role("run-2", 9_824)?;
    wait_for_all(&fleet, "run-2")?;
    let took = began.elapsed();
    println!("taken over after {took:?}");
    ensure!(took < GOAL, "taken over after {took:?}");
    let loaded = sum(&fleet, &snapshots("loaded"));
    ensure!(loaded == 1.0, "{loaded} loaded: {}", fleet.said_by("run-2")?);
    let read = sum(&fleet, "scanguard_fleet_run_messages_total");
    ensure!(read == 7.0, "{read} messages were read again, 7 came after the snapshot");
    let known = "8 members bear it out, 1 services, 8 failures, 0 successes";
    let explained = fleet.ask(&["explain", who], "run-2")?;
    ensure!(explained.contains(known), "{explained}");
    // What is said again, from before the snapshot and after it, counts once.
    accuse(&fleet, 1, 1, who)?;
    accuse(&fleet, 8, 1, who)?;
    wait_for_sightings(&fleet, 9.0)?;
    let explained = fleet.ask(&["explain", who], "run-2")?;
    ensure!(explained.contains(known), "{explained}");
    let again = "scanguard_fleet_run_left_out{partition=";
    let duplicates = wait_for("duplicates", PATIENCE, || {
        let (_, page) = agent::get(&fleet.hub, PAGE, "/metrics").ok()?;
        page.lines()
            .any(|line| line.starts_with(again) && line.ends_with("what=\"duplicate\"} 2"))
            .then_some(())
    });
    duplicates.with_context(|| fleet.said_by("run-2").unwrap_or_default())?;
    ensure!(sum(&fleet, decided()) == 0.0, "decided too early");
    accuse(&fleet, 9, 1, who)?;
    wait_for("the decision", PATIENCE, || (sum(&fleet, decided()) == 1.0).then_some(()))?;

    // An instance that ends orderly leaves its partitions at once.
    let third = fleet.run_role("run-1", 9_825)?;
    let held = || {
        let (_, page) = agent::get(&fleet.hub, OTHER, "/metrics").unwrap_or_default();
        let line = page.lines().find(|line| line.starts_with("scanguard_fleet_run_partitions "));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok()).unwrap_or(0)
    };
    wait_for("it has half", PATIENCE, || (held() == 8).then_some(()))?;
    second.signal(libc::SIGTERM);
    let began = Instant::now();
    wait_for("it has all", PATIENCE, || (held() == 16).then_some(()))?;
    let took = began.elapsed();
    println!("taken over after an orderly end: {took:?}");
    ensure!(took < ORDERLY, "after an orderly end: {took:?}");
    second.wait_within(PATIENCE)?;
    wait_for_all(&fleet, "run-1")?;
    let explained = fleet.ask(&["explain", who], "run-1")?;
    ensure!(explained.contains("9 members bear it out") && explained.contains("in force"), "{explained}");
    ensure!(!fleet.said_by("run-1")?.contains("suspicion of"), "decided again");

    // A snapshot that is broken is not used.
    let broken = (format!("sg.v1.state.{number}.head"), "{".to_owned(), None);
    say(&fleet, "run-1", &[broken])?;
    drop(third);
    let _fourth = fleet.run_role("run-2", 9_824)?;
    wait_for_all(&fleet, "run-2")?;
    ensure!(sum(&fleet, &snapshots("broken")) == 1.0, "{}", fleet.said_by("run-2")?);
    let said = format!("partition {number}: no snapshot (broken");
    ensure!(fleet.said_by("run-2")?.contains(&said), "{}", fleet.said_by("run-2")?);
    let explained = fleet.ask(&["explain", who], "run-2")?;
    ensure!(explained.contains("9 members bear it out"), "{explained}");
    fleet.kill_server();
    Ok(())
}

fn none() -> Result<()> {
    let mut fleet = Fleet::start(&names(9), &["run-1", "run-2"])?;
    let path = fleet.hub.directory().join("fleet/nats-server.conf");
    let text = fs::read_to_string(path)?;
    let denied = "deny: [\"$JS.API.STREAM.CREATE.SG_STATE\", ";
    ensure!(text.contains("deny: ["), "{text}");
    fleet.configure(&text.replace("deny: [", denied))?;
    let first = fleet.run_role("run-1", 9_824)?;
    wait_for_all(&fleet, "run-1")?;
    ensure!(fleet.said_by("run-1")?.contains("there will be no snapshots"), "{}", fleet.said_by("run-1")?);
    let who = "203.0.113.9";
    for member in 1..=8 {
        accuse(&fleet, member, 1, who)?;
    }
    wait_for("it is said", PATIENCE, || (sum(&fleet, &snapshots("not_written")) >= 1.0).then_some(()))?;
    drop(first);
    let _second = fleet.run_role("run-2", 9_824)?;
    wait_for_all(&fleet, "run-2")?;
    ensure!(sum(&fleet, &snapshots("missing")) == 16.0, "{}", fleet.said_by("run-2")?);
    accuse(&fleet, 9, 1, who)?;
    wait_for("the decision", PATIENCE, || (sum(&fleet, decided()) == 1.0).then_some(()))
}
