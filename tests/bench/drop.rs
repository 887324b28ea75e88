//! `cargo xtask bench --drop`: from the packet that crosses a threshold to the first that is dropped, and how many ports a
//! scan got answers for, by real scanners, which are shielded from as by default. A measurement, never a test.

use std::{
    collections::BTreeSet,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use scanguard_tests::fixtures::{
    agent::Agent,
    capture::Capture,
    lab::{Lab, Process, ROUTED, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE},
    scratch,
};

use crate::{
    machine::Machine,
    model::{Bound, Cell, Part, Report, Table, Target},
    wire,
    work::Effort,
};

/// Ports that a scan of one host tries.
const PORTS: usize = 1_000;
/// Hosts that a scan of one port tries: [`ROUTED`]`.0/24`.
const HOSTS: usize = 256;
/// The number of the probe at which a rule may match at the earliest: of `sequential_test`, the least of all.
const CROSSING: usize = 9;
/// Scans of each kind in a turn.
const SCANS: usize = 10;
/// A scan without a sensor, of a host that drops nothing, may take so long.
const SCAN_LIMIT: Duration = Duration::from_secs(120);
/// A scanner that has sent nothing for so long has sent all.
const QUIET: Duration = Duration::from_secs(3);
/// Milliseconds to the first packet that is dropped, of half of the scans.
const MEDIAN_LIMIT: f64 = 3.0;
/// The same, of 99 in a hundred.
const P99_LIMIT: f64 = 30.0;
/// Percent of [`PORTS`] from which a scan may hear.
const ANSWERED_LIMIT: f64 = 5.0;
/// Where the host forwards, a closed port may be somebody else's: there only a ban stops a scan of it.
const SPOOFABLE: &str = "allow_spoofable = true\n";
/// The setting with which only the agent bans, and the kernel does not hold.
const NO_REFLEX: &str = "reflex = \"0s\"\n";

/// A scanner and its arguments.
struct Scanner {
    name: &'static str,
    program: &'static str,
    arguments: String,
    /// How many services it tries.
    services: usize,
    /// Settings beside the mode.
    response: &'static str,
    /// Whether the scanned host forwards.
    forwards: bool,
}

impl Scanner {
    /// Whether it is stopped by the reflex, within whose times the targets are.
    fn meets_reflex(&self) -> bool {
        !self.forwards && self.response != NO_REFLEX
    }
}

fn scanners(mac: &str) -> [Scanner; 6] {
    let nmap = |how: &str| format!("-n -Pn {how} -T5 --host-timeout 5s -oG - -p 1-{PORTS} {VICTIM}");
    let syn_scan = Scanner {
        name: "nmap -sS -T5",
        program: "nmap",
        arguments: nmap("-sS"),
        services: PORTS,
        response: "",
        forwards: false,
    };
    [
        Scanner {
            name: "masscan, 10,000 a second",
            program: "masscan",
            arguments: format!(
                "--interface {SCANNER_INTERFACE} --adapter-ip {SCANNER} --router-mac {mac} --rate 10000 --wait 1 \
                 -oG - -p 1-{PORTS} {VICTIM}/32"
            ),
            ..syn_scan
        },
        // Before version 4 it takes one port, so it scans a block.
        Scanner {
            name: "zmap, 10,000 a second, a block",
            program: "zmap",
            arguments: format!(
                "-q -i {SCANNER_INTERFACE} -S {SCANNER} -G {mac} -r 10000 -c 1 -b /dev/null -p 80 {ROUTED}.0/24"
            ),
            services: HOSTS,
            ..syn_scan
        },
        Scanner { name: "nmap -sT -T5", arguments: nmap("-sT"), ..syn_scan },
        Scanner {
            name: "nmap -sS -T5, without the reflex",
            arguments: nmap("-sS"),
            response: NO_REFLEX,
            ..syn_scan
        },
        Scanner {
            name: "nmap -sS -T5, the host forwards, `allow_spoofable`",
            arguments: nmap("-sS"),
            response: SPOOFABLE,
            forwards: true,
            ..syn_scan
        },
        syn_scan,
    ]
}

/// The figures of one scan.
struct Outcome {
    /// From the crossing to the first packet that did not pass; none: all passed.
    until_dropped: Option<Duration>,
    /// Services that answered, open or closed.
    answered: usize,
}

/// Measures.
///
/// # Errors
/// Something that is needed is missing.
pub(crate) fn run(effort: Effort) -> Result<Report> {
    let scans = SCANS * effort.turns;
    let about = format!(
        "{scans} scans, each of {PORTS} ports of a host, or of one port of {HOSTS} hosts. Each comes from a fresh \
         host and meets a fresh agent that enforces and shields, as by default. Time: from the packet of the scan \
         by which a rule may match at the earliest (the ninth SYN) to the first SYN that was dropped, as tcpdump \
         saw both; 0 if that was the next packet. Answered: the share of services that the most successful scan \
         heard from, RST included; beside it, the same share without a sensor. Not stopped: scans of which all \
         packets passed; the times leave these out."
    );
    let columns = [
        "median_ms",
        "p99_ms",
        "slowest_ms",
        "answered_percent_at_most",
        "without_a_sensor_percent",
        "not_stopped",
    ];
    let mut table = Table::new("From the threshold to the drop", &about, &columns);
    let mut targets = Vec::new();
    let mac = Lab::new()?.victim_mac()?;
    for place in 0..scanners(&mac).len() {
        let scanner = &scanners(&mac)[place];
        let Scanner { name, services, .. } = *scanner;
        eprintln!("{scans} scans: {name}");
        let percent = |answered: usize| 100.0 * answered as f64 / services as f64;
        let unwatched = scan(place, false)?;
        let outcomes = (0..scans).map(|_| scan(place, true)).collect::<Result<Vec<_>>>()?;
        let mut times: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.until_dropped).collect();
        times.sort();
        let at = |part: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
            let place = (times.len().saturating_sub(1) as f64 * part).ceil() as usize;
            times.get(place).map(|time| time.as_secs_f64() * 1e3)
        };
        let most = outcomes.iter().map(|outcome| outcome.answered).max().unwrap_or(0);
        let not_stopped = (scans - times.len()) as f64;
        let times = [at(0.5), at(0.99), at(1.0)];
        let cells = times.map(|time| time.map_or(Cell::from("none"), Cell::from)).into_iter();
        table.push(
            name,
            cells.chain([percent(most), percent(unwatched.answered), not_stopped].map(Cell::from)),
        );
        // Where nothing is held before the agent has judged, the row shows what that is worth.
        if !scanner.meets_reflex() {
            continue;
        }
        let mut target = |what: &str, figure, limit, unit| {
            targets.push(Target::new(&format!("{name}: {what}"), figure, Bound::AtMost, limit, unit));
        };
        target("threshold to drop, median", times[0], MEDIAN_LIMIT, "ms");
        target("threshold to drop, p99", times[1], P99_LIMIT, "ms");
        target("scans not stopped", Some(not_stopped), 0.0, "");
        if services == PORTS {
            target("services that answered", Some(percent(most)), ANSWERED_LIMIT, "%");
        }
    }
    Ok(Report { part: Part::Drop, machine: Machine::this()?, tables: vec![table], targets })
}

/// One scan of a fresh victim, watched by an agent that enforces or by nobody.
fn scan(place: usize, is_watched: bool) -> Result<Outcome> {
    let lab = Lab::new()?;
    let scanners = scanners(&lab.victim_mac()?);
    let Scanner { name, program, arguments, response, forwards, .. } = &scanners[place];
    if *forwards {
        lab.victim.sysctl("ipv4/ip_forward", "1")?;
    }
    let config = scratch::file(".toml", format!("[response]\nmode = \"enforce\"\n{response}"))?;
    let path = config.display().to_string();
    let mut agent = match is_watched {
        true => Some(Agent::start(&lab.victim, &["--format", "json", "--config", &path])?),
        false => None,
    };
    let mut sent = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
    let mut passed = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
    let mut command = lab.scanner.command(program);
    command.args(arguments.split_whitespace());
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its findings, and so its exit status, are not measured.
    let scanner = Process::new(quiet.spawn().with_context(|| name.to_owned())?);
    until_quiet(&lab, scanner)?;
    sent.stop()?;
    passed.stop()?;
    answers.stop()?;
    if let Some(agent) = &mut agent {
        agent.end()?;
    }
    let syns = format!("src host {SCANNER} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn");
    let all: Vec<_> = sent.lines(&syns)?.iter().filter_map(|line| time(line)).collect();
    let through = usize::try_from(passed.count(&syns)?)?;
    let answered: BTreeSet<_> = answers
        .lines(&format!("dst host {SCANNER} and tcp"))?
        .iter()
        .filter_map(|line| Some(line.split(' ').nth(2)?.to_owned()))
        .collect();
    ensure!(all.len() > CROSSING, "{name} sent {} SYNs", all.len());
    let crossing = all[CROSSING - 1];
    // The packet that crosses may be the first that is dropped.
    let until_dropped =
        (through < all.len()).then(|| all[through.max(CROSSING - 1)].saturating_sub(crossing));
    Ok(Outcome { until_dropped, answered: answered.len() })
}

/// Waits until the scanner has ended, or has sent nothing for a while: masscan does not end before it receives
/// something.
fn until_quiet(lab: &Lab, mut scanner: Process) -> Result<()> {
    let start = Instant::now();
    let mut last = (wire::sent(&lab.scanner)?.all(), start);
    while scanner.child.try_wait()?.is_none() && last.1.elapsed() < QUIET {
        ensure!(start.elapsed() < SCAN_LIMIT, "the scan goes on after {SCAN_LIMIT:?}");
        thread::sleep(Duration::from_millis(50));
        let sent = wire::sent(&lab.scanner)?.all();
        if sent != last.0 {
            last = (sent, Instant::now());
        }
    }
    Ok(())
}

/// The time of a packet, since 1970.
fn time(line: &str) -> Option<Duration> {
    let (seconds, fraction) = line.split(' ').next()?.split_once('.')?;
    Some(Duration::new(seconds.parse().ok()?, fraction.parse::<u32>().ok()?.checked_mul(1_000)?))
}
