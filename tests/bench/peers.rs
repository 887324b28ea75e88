//! `cargo xtask bench --peers`: the same scan beside what else can be had, at several rates.

mod counters;
mod crowdsec;
mod firewall_log;
mod nothing;
mod place;
mod portsentry;
mod psad;
mod scanguard;
mod scanlogd;
mod suricata;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use scanguard_tests::fixtures::lab::{Lab, run};

use crate::{
    machine::{Machine, named, proportional, usage},
    model::{Cell, Part, Report, Table, median},
    wire,
    work::{Effort, Field, Scan},
};

/// One that may say something of a scan.
struct Peer {
    name: &'static str,
    /// Puts it in place on the victim.
    start: for<'l> fn(&'l Lab) -> Result<Box<dyn Running + 'l>>,
}

/// A peer in place, until this is dropped.
trait Running {
    /// Whether it has said that somebody scans. Those that say nothing by themselves have counted it.
    ///
    /// # Errors
    /// It cannot be asked.
    fn has_spoken(&mut self) -> Result<bool>;

    /// Of so many packets that were sent, how many it did not see; most do not count. It may be ended by this.
    ///
    /// # Errors
    /// It does not say.
    fn lost(&mut self, _sent: u64) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// All of them, the sensor among them.
const PEERS: [Peer; 12] = [
    nothing::PEER,
    scanguard::NATIVE,
    scanguard::BY_TC,
    counters::NFTABLES,
    counters::HASHLIMIT,
    suricata::PEER,
    suricata::XDP_BYPASS,
    firewall_log::PEER,
    psad::PEER,
    crowdsec::PEER,
    portsentry::PEER,
    scanlogd::PEER,
];

/// SYNs a second.
const RATES: [u32; 3] = [10_000, 50_000, 150_000];
/// How often a peer is asked whether it has spoken.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// How long a peer is waited for after the scan.
const PATIENCE: Duration = Duration::from_secs(8);
/// Turns, at most: with all rates and peers, one takes some ten minutes.
const MOST_TURNS: usize = 3;

/// Measures; `only`: those whose names contain this, beside nothing.
///
/// # Errors
/// The two hosts cannot be made.
pub(crate) fn run_all(effort: Effort, only: Option<&str>) -> Result<Report> {
    let turns = effort.turns.min(MOST_TURNS);
    let is_wanted =
        |peer: &&Peer| only.is_none_or(|word| peer.name.contains(word)) || peer.name == PEERS[0].name;
    let peers: Vec<_> = PEERS.iter().filter(is_wanted).collect();
    let field = Field::new()?;
    let mut tables = Vec::new();
    for rate in RATES {
        let mut all: Vec<(&Peer, Result<Vec<Run>, String>)> =
            peers.iter().map(|peer| (*peer, Ok(Vec::new()))).collect();
        for turn in 1..=turns {
            for (peer, runs) in &mut all {
                let Ok(done) = runs else { continue };
                eprintln!("{rate} SYNs a second, turn {turn} of {turns}: {}", peer.name);
                match measure(&field.lab, peer, rate, effort.seconds) {
                    Ok(run) => done.push(run),
                    // Whole commands, which may be in between, hold paths.
                    Err(error) => *runs = Err(error.root_cause().to_string()),
                }
            }
        }
        tables.push(table(rate, &all, effort.seconds, turns));
    }
    Ok(Report { part: Part::Peers, machine: Machine::this()?, tables, targets: Vec::new() })
}

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// CPU seconds of masscan, and of the threads that carry on what its CPU could not.
    stack: f64,
    /// CPU seconds of the peer's processes.
    own: f64,
    /// Their memory, in bytes.
    memory: u64,
    sent: u64,
    lost: Option<u64>,
    /// From the first packet to the first word.
    first_word: Option<Duration>,
}

fn measure(lab: &Lab, peer: &Peer, rate: u32, seconds: u32) -> Result<Run> {
    let mut running = (peer.start)(lab)?;
    // The peer has started, and is idle after this.
    thread::sleep(Duration::from_secs(1));
    let (own, threads) = (of_victim(lab)?.0, cpu_of(&named("ksoftirqd/")));
    let before = wire::sent(&lab.scanner)?;
    let mut scan = Scan::start(lab, rate, seconds)?;
    let (mut began, mut first_word, mut ended) = (None, None, None);
    loop {
        let now = Instant::now();
        let sent = wire::sent(&lab.scanner)?.all();
        if began.is_none() && sent > before.all() {
            began = Some(now);
        }
        if let (Some(began), None) = (began, first_word) {
            first_word = running.has_spoken()?.then(|| began.elapsed());
        }
        if ended.is_none() && scan.is_over(sent)? {
            ended = Some(now);
        }
        let is_silent = peer.name == PEERS[0].name;
        if ended.is_some_and(|ended| first_word.is_some() || is_silent || ended.elapsed() > PATIENCE) {
            break;
        }
        thread::sleep(if began.is_some() { ASKED_EVERY } else { Duration::from_millis(1) });
    }
    // Until what is under way has arrived, and was counted.
    thread::sleep(Duration::from_secs(1));
    let stack = cpu_of(&[scan.process()]) + cpu_of(&named("ksoftirqd/")) - threads;
    drop(scan);
    let after = of_victim(lab)?;
    let sent = wire::sent(&lab.scanner)?.all() - before.all();
    let lost = running.lost(sent)?;
    Ok(Run { stack, own: after.0 - own, memory: after.1, sent, lost, first_word })
}

/// CPU seconds of processes, as far as they are there.
fn cpu_of(processes: &[u32]) -> f64 {
    processes.iter().filter_map(|process| usage(*process).ok()).map(|usage| usage.seconds).sum()
}

/// CPU seconds and memory of all processes of the victim.
fn of_victim(lab: &Lab) -> Result<(f64, u64)> {
    let output = run(std::process::Command::new("ip").args(["netns", "pids", lab.victim.name()]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let processes: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    Ok((cpu_of(&processes), processes.iter().filter_map(|process| proportional(*process).ok()).sum()))
}

fn table(rate: u32, all: &[(&Peer, Result<Vec<Run>, String>)], seconds: u32, turns: usize) -> Table {
    let build = if cfg!(debug_assertions) { " ScanGuard is a build for debugging." } else { "" };
    let about = format!(
        "masscan sends {rate} SYNs a second for {seconds} s from one address to ports without a listener, over a veth \
         pair; medians of {turns} turns. CPU seconds are those of masscan, in whose time the kernel delivers its packets, \
         of ksoftirqd, and of the peer's processes (`own`), until one second after the scan and its first word. `above nothing` is the median of the differences within each \
         turn. Memory is that of the peer's processes at the end (PSS); the kernel's tables are not in it. Packets lost, \
         all turns together: those that the peer did not count, or says that it lost; in a firewall's log, those that \
         have no line. First word: from the first packet to what the peer says of the scan, asked every {} ms; rules of \
         nftables and iptables say nothing, and are asked for their counters. `none`: not within {} s after the scan's \
         end.{build}",
        ASKED_EVERY.as_millis(),
        PATIENCE.as_secs(),
    );
    let columns = [
        "packets_sent",
        "packets_lost",
        "cpu_seconds",
        "own",
        "above_nothing",
        "memory_mib",
        "first_word_ms",
    ];
    let mut table = Table::new(&format!("Beside others, {rate} SYNs a second"), &about, &columns);
    let nothing = all.first().and_then(|(_, runs)| runs.as_ref().ok());
    for (peer, runs) in all {
        match runs {
            Err(why) => table.push_missing(peer.name, why),
            Ok(runs) => table.push(peer.name, cells(runs, nothing.map_or(&[], Vec::as_slice))),
        }
    }
    table
}

fn cells(runs: &[Run], nothing: &[Run]) -> [Cell; 7] {
    let whole = |run: &Run| run.stack + run.own;
    let middle =
        |of: &dyn Fn(&Run) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>()).unwrap_or_default();
    let above: Vec<_> =
        runs.iter().zip(nothing).map(|(with, without)| whole(with) - whole(without)).collect();
    let lost: Option<u64> = runs.iter().map(|run| run.lost).sum();
    let words: Option<Vec<f64>> =
        runs.iter().map(|run| run.first_word.map(|time| time.as_secs_f64() * 1e3)).collect();
    [
        Cell::from(runs.iter().map(|run| run.sent).sum::<u64>() as f64),
        lost.map_or(Cell::from("not counted"), |lost| Cell::from(lost as f64)),
        Cell::from(middle(&whole)),
        Cell::from(middle(&|run: &Run| run.own)),
        Cell::from(median(&above).unwrap_or_default()),
        Cell::from(middle(&|run: &Run| run.memory as f64 / f64::from(1 << 20))),
        words.and_then(|words| median(&words)).map_or(Cell::from("none"), Cell::from),
    ]
}
