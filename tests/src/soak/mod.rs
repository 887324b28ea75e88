//! A soak: mixed traffic for as long as one likes, with reloads, a kill and bans that end, and what is left of memory,
//! descriptors, threads and exact counts after it. `cargo xtask soak`; a short one is a test of the layer `netns`.

pub mod report;
pub mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::{
    report::{Report, Sample},
    traffic::Call,
};
use crate::fixtures::{
    agent::Agent,
    capture::Capture,
    lab::{Lab, SCANNER_INTERFACE, wait_for},
    pinned::Bpffs,
    stage::Stage,
};

/// How long it is, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// As long as this at least; the last round is played to its end.
    pub length: Duration,
    /// One round: all kinds of traffic, then quiet, then the counts are compared.
    pub round: Duration,
    /// Reloads over all rounds but that of the kill.
    pub reloads: u32,
    /// Packets of a flood of random sources, each round.
    pub flood: u32,
}

/// How far memory may grow between the first round after the warm-up and the last, in KiB.
const MEMORY_DRIFT: u64 = 8 * 1024;
/// Connections that happen to be open, and threads that the runtime keeps for a moment.
const DRIFT: usize = 2;
/// Rounds after a start in which memory grows to what it is then: histories, findings, what visitors said.
const WARM_UP: usize = 2;
/// The kill is in one of them, and memory is compared after the warm-up.
const MIN_ROUNDS: u32 = 4;
/// For anything that is to happen soon, beside all that traffic.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);

/// The longest window of the rules that find these scans: whoever says anything within it after a ban is banned again.
const WINDOW: Duration = Duration::from_secs(65);

/// The hosts, the agent that watches them, and its records so far.
struct Soak<'l> {
    lab: &'l Lab,
    file: PathBuf,
    settings: String,
    reloads: u32,
    /// Sources that scanned, with the time at which the scan had ended.
    scanned: BTreeMap<&'static str, Instant>,
    /// Ids of findings, also of agents that were killed, with rule and source.
    findings: BTreeSet<(String, String, String)>,
}

/// Plays a soak; `on_round` is called after every round. Deviations from what should be are in the report.
///
/// # Errors
/// It could not be played to its end: the agent did not start or has died, honest clients were not served, a tool failed.
pub fn run(plan: &Plan, on_round: &mut dyn FnMut(&Sample)) -> Result<Report> {
    let bpffs = Bpffs::mount()?;
    let lab = Lab::new()?;
    traffic::addresses(&lab)?;
    let mut stage = Stage::new(&lab)?;
    stage.nginx(&lab.victim, &[traffic::WEB])?;
    let directory = lab.victim.directory();
    let settings = format!(
        "[sensor]\npoll_interval = \"200ms\"\nmax_sources = 8192\npersist = true\npin = \"{}\"\n\
         [history]\nmax_sources = 8192\n[findings]\nquiet = \"30s\"\n\
         [response]\nmode = \"enforce\"\nallow_spoofable = true\ntimes = [\"5s\"]\njitter = 0\n\
         max_per_minute = 10000\nreflex = \"0s\"\n\
         [logs]\nfiles = [\"{}\"]\nstate = \"{}\"\n",
        bpffs.pin().display(),
        traffic::access_log(&lab).display(),
        directory.join("logs.json").display()
    );
    let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    let before = transmitted(&lab)?;
    let mut soak = Soak {
        lab: &lab,
        file: directory.join("scanguard.toml"),
        settings,
        reloads: 0,
        scanned: BTreeMap::new(),
        findings: BTreeSet::new(),
    };
    // Its first packets come before the sensor: counts are compared from the start of the agent on.
    let call = Call::new(&lab)?;
    let early = transmitted(&lab)?.packets - before.packets;
    soak.write(0)?;
    let mut agent = soak.start()?;
    let start = Instant::now();
    let rounds = (plan.length.as_secs_f64() / plan.round.as_secs_f64()).ceil().max(f64::from(MIN_ROUNDS));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some rounds")]
    let killed_in = (rounds / 4.0) as u32;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some rounds")]
    let reloads = (f64::from(plan.reloads) / (rounds - 1.0)).ceil() as u32;
    let mut samples = Vec::new();
    let mut failures = Vec::new();
    for round in 0.. {
        if start.elapsed() >= plan.length && round >= MIN_ROUNDS {
            break;
        }
        let done;
        (agent, done) = soak.round(plan, round, &call, agent, (round != killed_in).then_some(reloads))?;
        let counted = soak.counted(&agent, before.packets + early)?;
        let sample = Sample::take(start.elapsed(), &agent, counted, done)?;
        if sample.counted != sample.transmitted {
            let Sample { counted, transmitted, .. } = sample;
            failures.push(format!("round {}: {transmitted} packets came, {counted} were counted", round + 1));
        }
        on_round(&sample);
        samples.push(sample);
    }
    let served_again = soak.bans_end(&agent, &mut failures)?;
    if served_again == 0 && plan.length > 2 * WINDOW {
        failures.push("no scan was long enough ago to see its source served again".to_owned());
    }
    let last = soak.counted(&agent, before.packets + early)?;
    capture.stop()?;
    soak.note(&agent);
    let mut report = Report {
        length: start.elapsed(),
        killed_in,
        reloads: soak.reloads,
        captured: capture.count("")? - early,
        missed: capture.dropped()?,
        lost: transmitted(&lab)?.dropped - before.dropped,
        counted: last.0,
        transmitted: last.1,
        bans: agent.metrics()?.sum("scanguard_bans_total{"),
        log_requests: agent.metrics()?.sum("scanguard_log_requests_total"),
        rules: soak.findings.iter().map(|(_, rule, _)| rule.clone()).collect(),
        served_again,
        samples,
        failures,
    };
    report.judge(soak.findings.iter().map(|(_, rule, source)| (rule.as_str(), source.as_str())));
    agent.end()?;
    Ok(report)
}

/// Counts of the traffic of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Pages that were served.
    pub pages: u64,
    /// Pings that were answered.
    pub pings: u64,
    /// Bytes that went over the connection that lasts, and came back.
    pub bytes: u64,
    /// Events that the page sent to somebody who watches it.
    pub events: u64,
    /// Lines that were written into the access log.
    pub lines: u64,
}

impl<'l> Soak<'l> {
    /// The configuration, a little different each time.
    fn write(&self, number: u32) -> Result<()> {
        let rule = format!("[rules.vertical_scan]\nservices = {}\n", 20 + number % 2);
        fs::write(&self.file, self.settings.clone() + &rule).context("the configuration")
    }

    fn start(&self) -> Result<Agent<'l>> {
        let path = self.file.to_str().context("UTF-8")?;
        Agent::start(&self.lab.victim, &["--format", "json", "--config", path])
    }

    /// One round of all traffic, with as many reloads, or with a kill and a restart.
    fn round(
        &mut self,
        plan: &Plan,
        round: u32,
        call: &Call,
        agent: Agent<'l>,
        reloads: Option<u32>,
    ) -> Result<(Agent<'l>, Done)> {
        let lab = self.lab;
        let until = Instant::now() + plan.round;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some pings")]
        let pings = (plan.round.as_secs_f64() / 0.2) as u32;
        let (agent, reloaded, done) = thread::scope(|scope| {
            let scans = scope.spawn(move || -> Result<()> {
                let mut scans = traffic::scans(round).into_iter();
                scans.try_for_each(|(scan, from)| traffic::scan(lab, scan, from))
            });
            let others = scope.spawn(move || {
                traffic::ask_for_secrets(lab);
                traffic::flood(lab, plan.flood);
            });
            let pages = scope.spawn(move || traffic::read_pages(lab, until));
            let pings = scope.spawn(move || traffic::ping(lab, traffic::PINGER, pings));
            let bytes = scope.spawn(move || call.exchange(until));
            let events = scope.spawn(move || traffic::watch(lab, until));
            let lines = scope.spawn(move || traffic::write_log(lab, until));
            let (agent, reloaded) = match reloads {
                Some(reloads) => {
                    self.reload(&agent, reloads, until)?;
                    (agent, reloads)
                }
                None => (self.restart(agent, plan.round / 4)?, 0),
            };
            let join = |what: &str, result: thread::Result<Result<u64>>| {
                result
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .with_context(|| what.to_owned())
            };
            let done = Done {
                pages: join("pages", pages.join())?,
                pings: join("pings", pings.join())?,
                bytes: join("the connection that lasts", bytes.join())?,
                events: join("the page", events.join())?,
                lines: join("the access log", lines.join())?,
            };
            others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            scans.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("scans")?;
            anyhow::Ok((agent, reloaded, done))
        })?;
        self.reloads += reloaded;
        self.scanned.extend(traffic::scans(round).iter().map(|(_, from)| (*from, Instant::now())));
        // The findings of this agent are noted before it may be killed.
        self.note(&agent);
        Ok((agent, done))
    }

    /// Reloads until a time, evenly.
    fn reload(&self, agent: &Agent<'_>, reloads: u32, until: Instant) -> Result<()> {
        let series = "scanguard_config_reloads_total{outcome=\"success\"}";
        let taken = || agent.metrics().map(|page| page.get(series));
        let before = taken()?;
        let pause = until.saturating_duration_since(Instant::now()) / (reloads + 1);
        let mut next = Instant::now();
        for number in 1..=reloads {
            next += pause;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            self.write(number)?;
            agent.process.signal(libc::SIGHUP);
            wait_for("the reload", BUSY_PATIENCE, || {
                taken().is_ok_and(|taken| taken >= before + f64::from(number)).then_some(())
            })
            .with_context(|| agent.said())?;
        }
        Ok(())
    }

    /// Kills the agent in the middle of it all, and starts the next one.
    fn restart(&mut self, mut agent: Agent<'l>, pause: Duration) -> Result<Agent<'l>> {
        thread::sleep(pause);
        self.note(&agent);
        agent.process.signal(libc::SIGKILL);
        agent.exit_code()?;
        thread::sleep(Duration::from_secs(1));
        self.start()
    }

    fn note(&mut self, agent: &Agent<'_>) {
        let text = |finding: &serde_json::Value, field: &str| {
            let value = &finding[field];
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        self.findings.extend(
            agent
                .findings()
                .iter()
                .map(|finding| (text(finding, "id"), text(finding, "rule"), text(finding, "source"))),
        );
    }

    /// Bans are to end, and who was banned is to be served again, of those whose scan no rule sees any more; gives how many.
    fn bans_end(&self, agent: &Agent<'_>, failures: &mut Vec<String>) -> Result<usize> {
        let bans = || agent.metrics().map(|page| page.get("scanguard_bans{kind=\"rule\"}"));
        if wait_for("bans end", BUSY_PATIENCE, || bans().is_ok_and(|bans| bans == 0.0).then_some(())).is_err()
        {
            failures.push(format!("{} bans have not ended", bans()?));
        }
        let long_ago = self.scanned.iter().filter(|(_, ended)| ended.elapsed() > WINDOW);
        let mut served = 0;
        for (address, _) in long_ago {
            match traffic::ping(self.lab, address, 2) {
                Ok(_) => served += 1,
                Err(error) => failures.push(format!("{address} is not served again: {error:#}")),
            }
        }
        Ok(served)
    }

    /// Packets that the agent counted and that came to its interface, once neither grows.
    fn counted(&self, agent: &Agent<'_>, before: u64) -> Result<(u64, u64)> {
        let mut last = None;
        wait_for("the counts stand still", BUSY_PATIENCE, || {
            let first = transmitted(self.lab).ok()?.packets;
            let counted = agent.settled().ok()?.packets();
            // Packets that came while the agent was asked are counted the next time.
            if transmitted(self.lab).ok()?.packets != first {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let now = (counted as u64, first - before);
            let is_final = now.0 == now.1 || last == Some(now);
            last = Some(now);
            is_final.then_some(now)
        })
    }
}

/// The sender's own counts, which the driver keeps: what came to the program at the other end, and what did not for want
/// of room.
#[derive(Clone, Copy, Debug)]
struct Transmitted {
    packets: u64,
    dropped: u64,
}

fn transmitted(lab: &Lab) -> Result<Transmitted> {
    let output = lab.scanner.ip(&format!("-j -s link show dev {SCANNER_INTERFACE}"))?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let count = |field: &str| links[0]["stats64"]["tx"][field].as_u64().with_context(|| links.to_string());
    Ok(Transmitted { packets: count("packets")?, dropped: count("dropped")? })
}
