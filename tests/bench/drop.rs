//! `cargo xtask bench --drop`: from the packet that crosses a threshold to the first that is dropped, and how many ports a
//! scan got answers for, by real scanners. A measurement, never a test.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use scanguard_tests::{
    agent::Agent,
    capture::Capture,
    lab::{Lab, Process, ROUTED, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE},
};

use crate::wire;

/// Ports that a scan of one host tries.
const PORTS: usize = 1_000;
/// Hosts that a scan of one port tries: [`ROUTED`]`.0/24`.
const HOSTS: usize = 256;
/// The number of the probe at which a rule may match at the earliest: of `sequential_test`, the least of all.
const CROSSING: usize = 9;
const PATIENCE: Duration = Duration::from_secs(120);
/// A scanner that has sent nothing for so long has sent all.
const QUIET: Duration = Duration::from_secs(3);

/// A scanner, how it is told to scan, and how many services it tries.
struct Scanner {
    name: &'static str,
    arguments: String,
    services: usize,
}

fn scanners(mac: &str) -> [Scanner; 3] {
    let ports = format!("1-{PORTS}");
    [
        Scanner {
            name: "nmap",
            arguments: format!("-n -Pn -sS -T5 --host-timeout 5s -oG - -p {ports} {VICTIM}"),
            services: PORTS,
        },
        Scanner {
            name: "masscan",
            arguments: format!(
                "--interface {SCANNER_INTERFACE} --adapter-ip {SCANNER} --router-mac {mac} --rate 10000 --wait 1 \
                 -oG - -p {ports} {VICTIM}/32"
            ),
            services: PORTS,
        },
        // Before version 4 it takes one port, so it scans a block.
        Scanner {
            name: "zmap",
            arguments: format!(
                "-q -i {SCANNER_INTERFACE} -S {SCANNER} -G {mac} -r 10000 -c 1 -b /dev/null -p 80 {ROUTED}.0/24"
            ),
            services: HOSTS,
        },
    ]
}

/// What one scan came to.
struct Outcome {
    /// From the crossing to the first packet that did not pass; none: all passed.
    until_dropped: Option<Duration>,
    /// Services that answered, open or closed.
    answered: usize,
}

/// Measures and prints.
pub(crate) fn run(turns: usize) -> Result<()> {
    println!(
        "{PORTS} ports of a host, or one of {HOSTS} hosts; {turns} scans each; allow_spoofable, since a SYN scan completes no connection"
    );
    println!(
        "{:<10} {:>12} {:>12} {:>12} {:>22} {:>22}",
        "scanner", "median ms", "p99 ms", "max ms", "answered, max", "without a sensor"
    );
    let mac = Lab::new()?.victim_mac()?;
    for place in 0..scanners(&mac).len() {
        let unwatched = scan(place, false)?;
        let mut outcomes = Vec::new();
        for _ in 0..turns {
            outcomes.push(scan(place, true)?);
        }
        let mut times: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.until_dropped).collect();
        ensure!(times.len() == outcomes.len(), "a scan was not banned");
        times.sort();
        let at = |part: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
            let place = ((times.len() - 1) as f64 * part).ceil() as usize;
            times[place].as_secs_f64() * 1e3
        };
        let most = outcomes.iter().map(|outcome| outcome.answered).max().unwrap_or(0);
        let Scanner { name, services, .. } = &scanners(&mac)[place];
        println!(
            "{name:<10} {:>12.2} {:>12.2} {:>12.2} {:>22} {:>22}",
            at(0.5),
            at(0.99),
            at(1.0),
            format!("{most} of {services}"),
            format!("{} of {services}", unwatched.answered),
        );
    }
    Ok(())
}

/// One scan of a fresh victim, watched by an agent that enforces or by nobody.
fn scan(place: usize, is_watched: bool) -> Result<Outcome> {
    let lab = Lab::new()?;
    let scanners = scanners(&lab.victim_mac()?);
    let Scanner { name, arguments, .. } = &scanners[place];
    let config = Configuration::new()?;
    let path = config.0.display().to_string();
    let mut agent = match is_watched {
        true => Some(Agent::start(&lab.victim, &["--format", "json", "--config", &path])?),
        false => None,
    };
    let mut sent = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
    let mut passed = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
    let mut command = lab.scanner.command(name);
    command.args(arguments.split_whitespace());
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What it finds, and so how it ends, is not what is measured.
    let scanner = Process::new(quiet.spawn().with_context(|| name.to_owned())?);
    until_quiet(&lab, scanner)?;
    sent.stop()?;
    passed.stop()?;
    answers.stop()?;
    if let Some(agent) = &mut agent {
        ensure!(agent.stop()? == Some(0), "{}", agent.said());
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
    // The packet that crosses may be the first that is dropped.
    let until_dropped =
        (through < all.len()).then(|| all[through.max(CROSSING - 1)].saturating_sub(all[CROSSING - 1]));
    Ok(Outcome { until_dropped, answered: answered.len() })
}

/// Waits until the scanner has ended, or has sent nothing for a while: masscan does not end before it hears something.
fn until_quiet(lab: &Lab, mut scanner: Process) -> Result<()> {
    let start = Instant::now();
    let mut last = (wire::sent(&lab.scanner)?.all(), start);
    while scanner.child.try_wait()?.is_none() && last.1.elapsed() < QUIET {
        ensure!(start.elapsed() < PATIENCE, "the scan goes on after {PATIENCE:?}");
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

/// A file that is removed when it is dropped.
struct Configuration(PathBuf);

impl Configuration {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("scanguard-drop-{}.toml", std::process::id()));
        fs::write(&path, "[response]\nmode = \"enforce\"\nallow_spoofable = true\n")
            .context("configuration")?;
        Ok(Self(path))
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // Nobody is left to tell if it fails.
        let _ = fs::remove_file(&self.0);
    }
}
