//! `cargo xtask bench --flood`: real scans while forged sources, or garbage, come in as fast as the kernel can send them.

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use scanguard_common::outcome::Exit;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, Metrics},
        capture::Capture,
        frames::{V4, tcp, to, v4_packet},
        lab::{Lab, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run_within},
    },
    matrix::cases::outcome::Opened,
};

use crate::{
    machine::{Machine, usage},
    model::{Bound, Cell, Part, Report, Table, Target, median},
    wire::{Change, FORGED, GARBAGE, Sender, received},
    work::Effort,
};

/// Scanners in each turn, one after the other.
const SCANNERS: usize = 4;
/// Ports that each of them tries.
const PORTS: &str = "1-200";
/// nmap may take so long.
const SCAN_LIMIT: Duration = Duration::from_secs(120);
/// How long a finding may take after the scan has ended: two polls.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// A finding is to be there within one poll, at the latest.
const LATENCY_LIMIT: f64 = 1_000.0;
/// The most that the agent's memory may grow by, in MiB: 400 bytes for each of the 131,072 histories that it keeps by
/// default, which is what one of two looks takes, with its room in the hash table.
const GROWTH_LIMIT: f64 = 50.0;
/// The probe of a scan by which a rule matches at the latest: of `vertical_scan`, the twentieth distinct service.
const CROSSING: usize = 20;
/// A mebibyte.
const MIB: f64 = 1_048_576.0;

/// Traffic beside the scans.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beside {
    Nothing,
    Forged,
    ForgedTwice,
    Garbage,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nothing, Self::Forged, Self::ForgedTwice, Self::Garbage];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Forged => "SYNs of ten million forged sources",
            Self::ForgedTwice => "the same, two SYNs of each",
            Self::Garbage => "garbage",
        }
    }

    /// The frame, what is done to each, and how many there have to be.
    fn frames(self, lab: &Lab) -> Result<Option<(Vec<u8>, Change, u64)>> {
        let syn = V4 { protocol: 6, destination: Some(VICTIM.parse()?), ..V4::default() };
        Ok(match self {
            Self::Nothing => None,
            Self::Forged | Self::ForgedTwice => {
                let frame = to(lab.victim_mac_bytes()?, &v4_packet(&syn, &tcp(0x02, 80)));
                let is_once = self == Self::Forged;
                Some((frame, if is_once { Change::Forged } else { Change::ForgedTwice }, FORGED))
            }
            Self::Garbage => Some((vec![0; GARBAGE], Change::Garbage, FORGED)),
        })
    }
}

/// The figures of one kind of flood.
struct Outcome {
    /// Frames a second.
    rate: f64,
    /// Frames that the driver handed to the program.
    given: u64,
    /// Packets that the sensor counted, by exit.
    exits: Vec<(&'static str, f64)>,
    /// Milliseconds from the arrival of the packet by which a rule matches to the finding, of those that were found.
    latencies: Vec<f64>,
    /// Packets of the scans that did not arrive.
    lost: u64,
    /// Findings of floods and the like, which name no source.
    nameless: usize,
    /// Findings of anybody else.
    accused: usize,
    /// Resident bytes: before, at most, at the end.
    resident: [u64; 3],
    metrics: Metrics,
}

impl Outcome {
    fn counted(&self) -> f64 {
        self.exits.iter().map(|(_, packets)| packets).sum()
    }
}

/// Measures.
///
/// # Errors
/// Something that is needed is missing.
pub(crate) fn run(effort: Effort) -> Result<Report> {
    let scans = SCANNERS * effort.turns;
    ensure!(scans <= 100, "--turns {}: at most {}", effort.turns, 100 / SCANNERS);
    let mut outcomes = Vec::new();
    for beside in Beside::ALL {
        eprintln!("{scans} scans, beside: {}", beside.name());
        outcomes.push((beside, measure(beside, scans)?));
    }
    let mut targets = Vec::new();
    for (beside, outcome) in &outcomes {
        let mut target = |what: &str, figure, bound, limit: f64, unit| {
            let what = format!("beside {}: {what}", beside.name());
            targets.push(Target::new(&what, Some(figure), bound, limit, unit));
        };
        target("scans found", outcome.latencies.len() as f64, Bound::AtLeast, scans as f64, "");
        target("slowest finding", worst(&outcome.latencies), Bound::AtMost, LATENCY_LIMIT, "ms");
        target("others accused", outcome.accused as f64, Bound::AtMost, 0.0, "");
        let uncounted = (outcome.given as f64 - outcome.counted()).abs();
        target("frames not counted", uncounted, Bound::AtMost, 0.0, "");
        let [before, most, _] = outcome.resident.map(|bytes| bytes as f64 / MIB);
        target("memory above that at rest", most - before, Bound::AtMost, GROWTH_LIMIT, "MiB");
    }
    let tables = vec![found(&outcomes, scans), agent(&outcomes), exits(&outcomes)];
    Ok(Report { part: Part::Flood, machine: Machine::this()?, tables, targets })
}

fn worst(latencies: &[f64]) -> f64 {
    latencies.iter().copied().fold(0.0, f64::max)
}

fn found(outcomes: &[(Beside, Outcome)], scans: usize) -> Table {
    let about = format!(
        "{scans} scans (nmap -sS -p {PORTS}), each from an address of its own, one after the other. Meanwhile live \
         frames (BPF_F_TEST_XDP_LIVE_FRAMES) arrive on the same interface as fast as one core sends them, {FORGED} \
         at least. One agent runs with its defaults, which hold 65,536 sources. Time: from the arrival of the \
         scan's twentieth packet (tcpdump), by which a rule has to match, to its finding; 0 if it was found \
         before. Packets lost: packets of the scans that were lost because the flood had filled the interface's \
         queue. Garbage: noise, three quarters of which begin as IPv4, IPv6 or with a VLAN tag, most of it cut \
         somewhere."
    );
    let columns = [
        "frames_per_second",
        "scans_found",
        "median_ms",
        "slowest_ms",
        "their_packets_lost",
        "findings_without_source",
        "others_accused",
    ];
    let mut table = Table::new("Scans found", &about, &columns);
    for (beside, outcome) in outcomes {
        let cells = [
            outcome.rate,
            outcome.latencies.len() as f64,
            median(&outcome.latencies).unwrap_or_default(),
            worst(&outcome.latencies),
            outcome.lost as f64,
            outcome.nameless as f64,
            outcome.accused as f64,
        ];
        table.push(beside.name(), cells.map(Cell::from));
    }
    table
}

fn agent(outcomes: &[(Beside, Outcome)]) -> Table {
    let mut table = Table::new(
        "The agent meanwhile",
        "Frames given: frames that the driver handed to XDP programs on the interface. Memory is resident memory \
         in MiB. Evictions: sources that the kernel's table gave up, all of which had passed the admission filter; \
         histories that the agent gave up.",
        &[
            "frames_given",
            "frames_counted",
            "mib_before",
            "mib_highest",
            "mib_at_the_end",
            "sources",
            "evictions",
            "histories_given_up",
        ],
    );
    for (beside, outcome) in outcomes {
        let figures = [outcome.given as f64, outcome.counted()];
        let resident = outcome.resident.map(|bytes| bytes as f64 / MIB);
        let state =
            ["scanguard_sources", "scanguard_source_evictions_total", "scanguard_history_evictions_total"];
        let state = state.map(|series| outcome.metrics.get(series));
        table.push(beside.name(), figures.into_iter().chain(resident).chain(state).map(Cell::from));
    }
    table
}

fn exits(outcomes: &[(Beside, Outcome)]) -> Table {
    let columns = Beside::ALL.map(Beside::name).map(|name| name.replace(' ', "_"));
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(
        "Packets by exit",
        "Packets by exit of the sensor's program. Unused exits are left out.",
        &columns,
    );
    for (place, exit) in Exit::ALL.iter().enumerate() {
        let packets: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.exits[place].1).collect();
        if packets.iter().any(|packets| *packets > 0.0) {
            table.push(exit.label(), packets);
        }
    }
    table
}

/// The scanners' addresses, in the scanner's network and of no other host there.
fn scanner(number: usize) -> String {
    format!("10.77.0.{}", 100 + number)
}

fn measure(beside: Beside, scans: usize) -> Result<Outcome> {
    let lab = Lab::new()?;
    let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
    for number in 0..scans {
        let address = scanner(number);
        lab.scanner.ip(&format!("addr add {address}/24 dev {SCANNER_INTERFACE}"))?;
        lab.victim
            .ip(&format!("neigh replace {address} lladdr {mac} dev {VICTIM_INTERFACE} nud permanent"))?;
    }
    let mut agent = Agent::start(&lab.victim, &["--format", "json"])?;
    let mut sent = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    let mut arrived = Capture::start_filtered(&lab.victim, VICTIM_INTERFACE, "src net 10.77.0.0/24 and tcp")?;
    let before = agent.metrics()?;
    let given = received(&lab.victim)?;
    let (rate, resident) = flooded(&lab, beside, agent.process.child.id(), || scan_all(&lab, scans))?;
    let metrics = agent.settled()?;
    let given = received(&lab.victim)? - given;
    sent.stop()?;
    arrived.stop()?;
    agent.end()?;
    let opened: Vec<_> =
        agent.findings().into_iter().filter(|finding| finding["event"] == "opened").collect();
    let mut outcome = Outcome {
        rate,
        given,
        exits: Exit::ALL
            .iter()
            .map(|exit| (exit.label(), metrics.exit(exit.label()) - before.exit(exit.label())))
            .collect(),
        latencies: Vec::new(),
        lost: sent.count("tcp")?.saturating_sub(arrived.count("tcp")?),
        nameless: opened.iter().filter(|finding| finding.get("source").is_none()).count(),
        accused: 0,
        resident,
        metrics,
    };
    let opened = opened
        .iter()
        .filter(|finding| finding.get("source").is_some())
        .map(Opened::read)
        .collect::<Result<Vec<_>>>()?;
    let scanners: Vec<_> = (0..scans).map(scanner).collect();
    outcome.accused = opened.iter().filter(|opened| !scanners.contains(&opened.source)).count();
    for scanner in &scanners {
        let lines = arrived.lines(&format!("src host {scanner}"))?;
        let crossing = lines.get(CROSSING - 1).and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
        let crossing = crossing.with_context(|| format!("{} packets of {scanner} arrived", lines.len()))?;
        let found = opened.iter().find(|opened| opened.source == *scanner);
        let time = found.map(|found| found.time.as_nanosecond() as f64 / 1e9);
        // A rule that asks for less may have found it before.
        outcome.latencies.extend(time.map(|time| ((time - crossing) * 1e3).max(0.0)));
    }
    Ok(outcome)
}

/// One after the other.
fn scan_all(lab: &Lab, scans: usize) -> Result<()> {
    for number in 0..scans {
        let mut nmap = lab.scanner.command("nmap");
        nmap.args(["-n", "-Pn", "-sS", "--max-retries", "1", "-p", PORTS]);
        nmap.args(["-e", SCANNER_INTERFACE, "-S", &scanner(number), VICTIM]);
        run_within(nmap.stdout(Stdio::null()), SCAN_LIMIT)?;
    }
    // The last one's finding may come with a poll.
    thread::sleep(AFTERWARDS);
    Ok(())
}

/// Does something while frames come in; how many did a second, and the agent's memory.
fn flooded(
    lab: &Lab,
    beside: Beside,
    agent: u32,
    work: impl FnOnce() -> Result<()> + Send,
) -> Result<(f64, [u64; 3])> {
    let before = usage(agent)?.resident;
    let (is_scanned, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let most = AtomicU64::new(before);
    let frames = beside.frames(lab)?;
    let rate = thread::scope(|scope| {
        let watched = scope.spawn(|| -> Result<()> {
            while !is_done.load(Ordering::Relaxed) {
                most.fetch_max(usage(agent)?.resident, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        });
        let worked = scope.spawn(|| {
            let result = work();
            is_scanned.store(true, Ordering::Relaxed);
            result
        });
        let sent = frames.map(|(frame, change, least)| {
            let sender = Sender::new(lab, change)?;
            sender.send_while(&frame, |sent| sent < least || !is_scanned.load(Ordering::Relaxed))
        });
        let worked = worked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        is_done.store(true, Ordering::Relaxed);
        watched.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        worked?;
        Ok::<_, anyhow::Error>(sent.transpose()?.map_or(0.0, |arrived| arrived.rate))
    })?;
    let end = usage(agent)?.resident;
    Ok((rate, [before, most.into_inner().max(end), end]))
}
