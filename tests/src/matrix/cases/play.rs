//! One case: two hosts, the real agent on one of them, and what happens.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::{
    Case, Expect,
    outcome::{Opened, Outcome, Seen, missing},
};
use crate::fixtures::{
    agent::{Agent, Metrics},
    lab::{Lab, Namespace, PATIENCE, Process, VICTIM_INTERFACE, wait_for},
    stage::Stage,
};

/// Short, so that the latency that is seen is the rules'.
pub const POLL_INTERVAL: &str = "100ms";

/// Metrics that count the messages of clients.
const MESSAGES: [&str; 5] = [
    "scanguard_samples_total{begins=\"http_request\"}",
    "scanguard_samples_total{begins=\"tls_hello\"}",
    "scanguard_samples_total{begins=\"dns_query\"}",
    "scanguard_samples_total{begins=\"greeting\"}",
    "scanguard_log_requests_total",
];

/// Plays it to its end. A panic fails the case, not the matrix.
pub fn play(case: &Case, poll_interval: &str) -> Outcome {
    let start = Instant::now();
    let played = thread::scope(|scope| {
        let thread = scope.spawn(|| watched(case, poll_interval));
        thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
    });
    Outcome::new(case, played, start.elapsed())
}

fn watched(case: &Case, poll_interval: &str) -> Result<Seen> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    (case.prepare)(&mut stage).context("before the sensor was started")?;
    let config = format!("[sensor]\npoll_interval = \"{poll_interval}\"\n{}", stage.fill(case.config));
    let config = stage.file("scanguard.toml", &config)?;
    let mut agent = Agent::start(&lab.victim, &["--format", "json", "--config", &config])?;
    let before = agent.metrics()?;
    let first = FirstPacket::watch(&lab.victim)?;
    // An honest client that is not served may have been banned: what the agent says tells why.
    let unserved = match case.act(&mut stage) {
        Err(error) if case.expect == Expect::Spared => Some(format!("{error:#}")),
        other => other.map(|()| None)?,
    };
    await_findings(case, &agent);
    let polls = "scanguard_poll_duration_seconds_count";
    let ended = agent.metrics()?;
    let after = wait_for("three polls more", Duration::from_secs(60), || {
        agent.metrics().ok().filter(|now| now.get(polls) >= ended.get(polls) + 3.0)
    })?;
    agent.end()?;
    let findings = agent.findings();
    let opened = findings.iter().filter(|finding| finding["event"] == "opened");
    let probes = "scanguard_probes_total{";
    let messages = |metrics: &Metrics| MESSAGES.iter().map(|series| metrics.get(series)).sum::<f64>();
    Ok(Seen {
        packets: whole(after.packets() - before.packets()),
        probes: whole(after.sum(probes) - before.sum(probes)),
        messages: whole(messages(&after) - messages(&before)),
        found: findings.iter().flat_map(techniques).collect(),
        // What leaves is about this host, not about its client: a case may have it connect to 200 ports.
        is_accused: findings.iter().any(|finding| {
            finding["severity"] != "info"
                && finding["source"]["ip"] != case.beside
                && finding["direction"] != "outbound"
        }),
        unserved,
        first: first.time(),
        opened: opened.map(Opened::read).collect::<Result<_>>()?,
    })
}

/// Waits a second after the last packet, in which a scan may be found in more than one way, and longer where nothing is
/// found yet: SYNs that nobody answers count after three seconds. Logs are looked at once a second.
fn await_findings(case: &Case, agent: &Agent<'_>) {
    const LONGEST: Duration = Duration::from_secs(5);
    let end = Instant::now() + LONGEST;
    thread::sleep(Duration::from_secs(if case.config.contains("[logs]") { 3 } else { 1 }));
    let is_found = || {
        let found: BTreeSet<_> = agent.findings().iter().flat_map(techniques).collect();
        case.expect == Expect::Found && !found.is_empty() && missing(case, &found).is_none()
    };
    while Instant::now() < end && !is_found() {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Rule and technique, for each technique of a line. A rule that takes a finding over reports it as updated.
fn techniques(finding: &serde_json::Value) -> Vec<(String, String)> {
    let rule = finding["rule"].as_str().unwrap_or_default();
    let techniques = finding["techniques"].as_array().into_iter().flatten();
    techniques.filter_map(|technique| Some((rule.to_owned(), technique.as_str()?.to_owned()))).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter, and not that large")]
fn whole(count: f64) -> u64 {
    count.max(0.0) as u64
}

/// The time of the first packet that comes in, by tcpdump.
struct FirstPacket {
    _process: Process,
    time: Arc<Mutex<Option<Timestamp>>>,
}

impl FirstPacket {
    /// Neighbour discovery and multicast groups are none of the tool's own.
    const FILTER: &str = "ip or (ip6 and not icmp6) or (ip6[6] = 58 and ip6[40] = 128)";

    fn watch(host: &Namespace) -> Result<Self> {
        let mut tcpdump = host.command("tcpdump");
        tcpdump.args(["-Z", "root", "-n", "-l", "-tt", "--immediate-mode", "-c", "1", "-Q", "in"]);
        tcpdump.args(["-i", VICTIM_INTERFACE, Self::FILTER]);
        tcpdump.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::new(tcpdump.spawn().context("tcpdump")?);
        let (stdout, stderr) = (process.child.stdout.take(), process.child.stderr.take());
        let (stdout, stderr) = (stdout.context("stdout")?, stderr.context("stderr")?);
        let listening = Arc::new(AtomicBool::new(false));
        let is_listening = Arc::clone(&listening);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                is_listening.fetch_or(line.contains("listening on"), Ordering::Relaxed);
            }
        });
        let time = Arc::<Mutex<_>>::default();
        let into = Arc::clone(&time);
        thread::spawn(move || {
            let line = BufReader::new(stdout).lines().map_while(Result::ok).next()?;
            let (seconds, rest) = line.split_once('.')?;
            let micros: i64 = rest.split(' ').next()?.parse().ok()?;
            let micros = seconds.parse::<i64>().ok()? * 1_000_000 + micros;
            *into.lock().unwrap_or_else(PoisonError::into_inner) = Timestamp::from_microsecond(micros).ok();
            Some(())
        });
        wait_for("tcpdump listens", PATIENCE, || listening.load(Ordering::Relaxed).then_some(()))?;
        Ok(Self { _process: process, time })
    }

    fn time(&self) -> Option<Timestamp> {
        *self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
