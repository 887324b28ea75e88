//! What leaves this host: the sensor of actors, what is made of it, and the file of what was learned.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use scanguard_common::{actor::Kind, address::Address, outcome::Answer};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::{
    apply,
    clock::Now,
    config::Config,
    control::listing::{ActorReport, ActorReports, Actors, Program},
    detect::findings::{Event, Finding},
    observe::{activity::Activity, greatest},
    outbound::{
        baseline::Baseline,
        file,
        metrics::OutboundMetrics,
        settings::{Namespaces, Settings},
        table::{Actors as Table, Known},
        users::{self, Users},
    },
    pipeline::{Pipeline, outbound::Outbound},
    respond::{outbound::Blocks, report::FindingReport},
    sensor::{
        ActorSensor,
        outbound::{Programs, Scope, metrics::ActorMetrics},
    },
    whole_file,
};

/// How often what was learned is written, if it has changed.
const WRITE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How many actors are explained at once.
const MOST_REPORTS: usize = 20;
/// How long the agent's end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// What leaves, where it can be seen.
pub(super) struct Leaving {
    sensor: Box<dyn ActorSensor + Send>,
    outbound: Outbound,
    /// Actors in the kernel's table, and how many of them it has evicted.
    entries: u64,
    evicted: u64,
    blocks: Blocks,
    /// The time of day of the previous poll.
    lately: jiff::Timestamp,
    path: PathBuf,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// When it was last written.
    written: Option<Instant>,
    /// The file could not be read nor moved aside, and is not overwritten.
    blocked: bool,
}

/// The processes that are looked at; none, if nothing is.
pub(super) fn scope(settings: &Settings) -> Option<Scope> {
    let scope = match settings.namespaces {
        Namespaces::Auto => Scope::fitting(),
        Namespaces::Own => Scope::Own,
        Namespaces::All => Scope::All,
    };
    settings.enabled.then_some(scope)
}

impl Leaving {
    /// Starts with what was learned before. Names of users are read here, while everything can still be read.
    pub(super) fn start(
        config: &Config,
        programs: Programs,
        metrics: (&OutboundMetrics, &ActorMetrics),
        now: Now,
    ) -> Self {
        let Programs { mut sensor, calls } = programs;
        metrics.1.connections_attached(true);
        calls.into_iter().for_each(|call| metrics.1.attached(call, true));
        let path = file::beside(&config.response.state);
        let learning = config.outbound.learning;
        let (baseline, blocked) = match file::read(&path, now.wall, learning) {
            Ok(baseline) => (baseline, false),
            Err(error) => {
                metrics.0.state_failed();
                let moved = whole_file::move_aside(&path, "corrupt", now.wall);
                let (name, what) = (path.display(), "it is learned anew who uses the network");
                match &moved {
                    Ok(moved) => {
                        tracing::error!("{name} is wrong ({error}): moved to {}; {what}", moved.display());
                    }
                    Err(why) => tracing::error!("{name} is wrong ({error}), and stays ({why}); {what}"),
                }
                (Baseline::new(now.wall, learning), moved.is_err())
            }
        };
        tracing::info!("what leaves is looked at; learning ends {:.0}", baseline.learned_at());
        let users = Users::read(Path::new(users::FILE));
        let outbound = apply::outbound(config, baseline, users);
        let blocks = Blocks::new(config.outbound.response, std::process::id(), sensor.as_mut());
        Self {
            sensor,
            outbound,
            entries: 0,
            evicted: 0,
            blocks,
            lately: now.wall,
            path,
            writing: None,
            written: None,
            blocked,
        }
    }

    /// Applies a new configuration.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        apply::to_outbound(config, &mut self.outbound);
        self.blocks.set_response(config.outbound.response, self.sensor.as_mut());
    }

    /// The names of the rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.outbound.pipeline.detector.rules()
    }

    /// Replaces the interfaces with hosts behind this one.
    pub(super) fn set_inner(&mut self, interfaces: &BTreeSet<u32>) {
        if let Err(error) = self.sensor.set_inner(interfaces) {
            tracing::error!("outbound.inner: {error}");
        }
    }

    /// Replaces the networks that are known here: `own` are inside, and special addresses in `near` lead somewhere.
    pub(super) fn set_networks(&mut self, own: Vec<IpNet>, near: &[IpNet]) {
        self.outbound.set_own(own);
        if let Err(error) = self.sensor.set_near(near) {
            tracing::error!("networks that are known here: {error}");
        }
    }

    /// Histories, rules and findings.
    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.outbound.pipeline
    }

    /// The open findings.
    pub(super) fn open(&self) -> impl Iterator<Item = &Finding> {
        self.outbound.pipeline.detector.tracker().open()
    }

    /// Those of an actor.
    pub(super) fn of(&self, actor: &Address) -> &[Finding] {
        self.outbound.pipeline.detector.tracker().of(actor)
    }

    /// Reads the sensor, and passes on the findings that follow.
    pub(super) fn poll(&mut self, metrics: &OutboundMetrics, now: Now, tell: &mut dyn FnMut(Event)) {
        let Self { sensor, outbound, .. } = self;
        match outbound.poll(sensor.as_mut(), now, tell) {
            Ok(outcome) => {
                self.entries = outcome.poll.entries;
                self.evicted += outcome.evicted;
            }
            Err(error) => {
                metrics.poll_failed();
                tracing::error!("poll of what leaves: {error}");
            }
        }
        self.respond(metrics, now);
        let outbound = &self.outbound;
        let Pipeline { observer, detector, .. } = &outbound.pipeline;
        metrics.state(detector.tracker().actors(), observer.evictions(), &outbound.baseline);
    }

    /// Exports what the kernel looked at.
    pub(super) fn export(&self, metrics: &ActorMetrics) {
        if let Some(tally) = self.sensor.looked_at() {
            metrics.polled(&tally, self.entries, self.evicted, self.sensor.missed());
        }
    }

    /// Blocks those whose findings go on, if that is wanted.
    fn respond(&mut self, metrics: &OutboundMetrics, now: Now) {
        let Self { sensor, outbound, blocks, lately, .. } = self;
        blocks.expire(now, sensor.as_mut());
        let open = outbound.pipeline.detector.tracker().open();
        for finding in open.filter(|finding| finding.last >= *lately) {
            if let Some(outcome) = blocks.consider(finding, now, sensor.as_mut()) {
                metrics.decided(outcome.label());
            }
        }
        metrics.blocked(blocks.len());
        *lately = now.wall;
    }

    /// What holds for the actor of a finding, in words.
    pub(super) fn explain(&self, finding: &Finding, now: Now) -> String {
        self.blocks.explain(finding, now)
    }

    /// Closes all findings, because the agent ends.
    pub(super) fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.outbound.pipeline.detector.close_all(now, tell);
    }

    /// Writes what was learned now and then, unless a write is under way.
    pub(super) async fn keep(&mut self, metrics: &OutboundMetrics) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.finish_writing(metrics).await;
        if self.written.is_none_or(|written| written.elapsed() >= WRITE_INTERVAL) {
            self.write(metrics);
        }
    }

    /// Writes the rest, and waits a while for that.
    pub(super) async fn close(mut self, metrics: &OutboundMetrics) {
        let path = self.path.clone();
        let written = async {
            self.finish_writing(metrics).await;
            self.write(metrics);
            self.finish_writing(metrics).await;
        };
        if timeout(PATIENCE, written).await.is_err() {
            tracing::error!(
                "{}: the disk does not answer, and the agent does not wait for it",
                path.display()
            );
        }
    }

    fn write(&mut self, metrics: &OutboundMetrics) {
        if self.blocked || !self.outbound.baseline.take_changed() {
            return;
        }
        self.written = Some(Instant::now());
        match file::content(&self.outbound.baseline) {
            Ok(content) => {
                let path = self.path.clone();
                self.writing = Some(spawn_blocking(move || file::write(&path, &content)));
            }
            Err(error) => self.failed(&error, metrics),
        }
    }

    async fn finish_writing(&mut self, metrics: &OutboundMetrics) {
        let Some(task) = self.writing.take() else {
            return;
        };
        if let Err(error) = task.await.map_err(io::Error::other).flatten() {
            self.outbound.baseline.stay_changed();
            self.failed(&error, metrics);
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display, metrics: &OutboundMetrics) {
        metrics.state_failed();
        tracing::warn!("{} could not be written: {error}; trying again", self.path.display());
    }

    /// The programs that use the network, those first that were seen last.
    pub(super) fn list(&self, rows: usize) -> Actors {
        let baseline = &self.outbound.baseline;
        let keys = baseline.iter().map(|(name, entry)| (entry.last, name, entry.since));
        let programs = greatest(keys, rows).into_iter().filter_map(|(_, name, _)| {
            let entry = baseline.get(name)?;
            Some(Program {
                class: name.class.clone(),
                path: name.path.clone(),
                since: entry.since,
                last: entry.last,
                updated: entry.updated,
                how: entry.how.iter().map(|how| how.label().to_owned()).collect(),
            })
        });
        Actors { known: baseline.len(), learned_at: baseline.learned_at(), programs: programs.collect() }
    }

    /// The actors that match and are known now, at most [`MOST_REPORTS`] of them, and why they are blocked or not.
    pub(super) fn reports(
        &self,
        pattern: &glob::Pattern,
        now: Now,
        evidence: impl Fn(&Finding) -> FindingReport,
    ) -> ActorReports {
        let known = self.outbound.pipeline.detector.tracker().actors();
        let mut matching: Vec<_> =
            known.into_iter().flat_map(Table::iter).filter(|known| known.actor.matches(pattern)).collect();
        // The programs of a group come before it.
        matching.sort_by_key(|known| {
            (Reverse(known.active()), known.actor.key.kind == Kind::Group, known.actor.key.address())
        });
        let actors = matching.iter().take(MOST_REPORTS).map(|known| self.report(known, now, &evidence));
        ActorReports { matching: matching.len(), actors: actors.collect() }
    }

    fn report(&self, known: &Known, now: Now, evidence: &impl Fn(&Finding) -> FindingReport) -> ActorReport {
        let Known { actor, allowed, .. } = known;
        let address = actor.key.address();
        let Pipeline { observer, detector, .. } = &self.outbound.pipeline;
        let findings = self.of(&address);
        let history = observer.history(&address);
        let window = history.map(|history| (history.window(now.at, now.at), history.last()));
        let since = |at: Duration| now.at.saturating_sub(at).as_secs();
        let activity = window.map_or(Activity::NONE, |(window, _)| window.activity);
        let short_of = history.map(|history| detector.shortfalls(address, history, now.at));
        let reported = |finding| FindingReport { policy: self.explain(finding, now), ..evidence(finding) };
        let is_found = |rule: &str| findings.iter().any(|finding| finding.rule == rule);
        ActorReport {
            kind: actor.key.kind.label().to_owned(),
            actor: actor.to_string(),
            command: actor.origin(),
            verdict: self.blocks.explain_actor(actor, findings, now),
            allowed: allowed.then(|| "outbound.allow names it: nothing is told of it".to_owned()),
            findings: findings.iter().map(reported).collect(),
            attempts: activity.counts.by_name(),
            answered: activity.answered(Answer::SynAck),
            refused: activity.answered(Answer::Reset),
            seconds_since_first: window.map_or(0, |(window, _)| since(window.first)),
            seconds_since_last: since(window.map_or(known.active(), |(_, last)| last)),
            short_of: short_of
                .into_iter()
                .flatten()
                .filter(|(rule, _)| !is_found(rule))
                .map(|(rule, said)| (rule.to_owned(), said))
                .collect(),
        }
    }

    /// Forgets the programs that match. Returns how many there were.
    pub(super) fn forget(&mut self, pattern: &glob::Pattern) -> usize {
        // It must not come back after a restart.
        self.written = None;
        self.outbound.baseline.forget(pattern)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use scanguard_common::actor::{Key, Kind};

    use super::*;
    use crate::sensor::outbound::calls::Call;
    use crate::{
        metrics::Register,
        outbound::{identity::testing::Draft, settings::Response},
        pipeline::outbound::testing::FakeActors,
    };

    const PROGRAM: Key = Key::of_program(Kind::Program, 42, 0, 7);

    fn now(second: u64) -> Now {
        let at = Duration::from_secs(second);
        Now { at, wall: Timestamp::UNIX_EPOCH + at }
    }

    fn metrics() -> OutboundMetrics {
        OutboundMetrics::new(&Register::default()).unwrap()
    }

    /// A configuration with its files in a directory of its own.
    fn config(name: &str) -> Config {
        let mut config = Config::default();
        let directory = std::env::temp_dir().join(format!("sg-leaving-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        config.response.state = directory.join("state.json");
        config
    }

    fn sweeping() -> Box<FakeActors> {
        let mut fake = FakeActors::new();
        let draft = Draft::new("/usr/bin/python3", "/system.slice/web.service");
        fake.identities.insert(PROGRAM.address(), draft.identity);
        (0..60).for_each(|host| fake.ask(PROGRAM, host, 22));
        Box::new(fake)
    }

    fn rules(leaving: &mut Leaving, seconds: [u64; 2]) -> Vec<&'static str> {
        let mut events = Vec::new();
        for second in seconds {
            leaving.poll(&metrics(), now(second), &mut |event| events.push(event));
        }
        events.iter().map(|event| event.finding.rule).collect()
    }

    fn start(config: &Config, sensor: Box<FakeActors>, second: u64) -> Leaving {
        let programs = Programs { sensor, calls: vec![Call::Connect4] };
        let kernel = ActorMetrics::new(&Register::default()).unwrap();
        Leaving::start(config, programs, (&metrics(), &kernel), now(second))
    }

    #[tokio::test]
    async fn what_leaves_is_told_learned_listed_and_forgotten() {
        let mut config = config("told");
        config.outbound.response = Response::DryRun;
        let mut leaving = start(&config, sweeping(), 0);
        assert_eq!(rules(&mut leaving, [1, 5]), ["outbound_sweep"]);
        let finding = leaving.open().next().unwrap();
        assert_eq!(leaving.of(&PROGRAM.address()), std::slice::from_ref(finding));
        assert!(leaving.explain(finding, now(5)).starts_with("would be blocked for"));
        let listed = leaving.list(10);
        let [program] = listed.programs.as_slice() else { panic!("{listed:?}") };
        assert_eq!((program.class.as_str(), program.path.as_str()), ("web.service", "/usr/bin/python3"));
        assert_eq!(program.how, ["tcp"]);
        leaving.keep(&metrics()).await;
        leaving.close(&metrics()).await;
        let mut again = start(&config, Box::new(FakeActors::new()), 6);
        assert_eq!(again.list(10).programs, listed.programs);
        assert_eq!(again.forget(&glob::Pattern::new("*python*").unwrap()), 1);
        again.close(&metrics()).await;
        let last = start(&config, Box::new(FakeActors::new()), 7);
        assert_eq!((last.list(10).known, last.list(10).learned_at), (0, listed.learned_at));
        std::fs::remove_dir_all(config.response.state.parent().unwrap()).unwrap();
    }

    #[test]
    fn actors_are_explained_by_name_with_what_they_fall_short_of() {
        let mut config = config("explained");
        config.outbound.response = Response::Block;
        let mut fake = sweeping();
        let quiet = Key::of_program(Kind::Program, 42, 0, 8);
        let draft = Draft::new("/usr/bin/curl", "/system.slice/web.service");
        fake.identities.insert(quiet.address(), draft.identity);
        (0..5).for_each(|host| fake.ask(quiet, host, 443));
        let mut leaving = start(&config, fake, 0);
        rules(&mut leaving, [1, 5]);
        let evidence = |finding: &Finding| FindingReport {
            id: finding.id.clone(),
            rule: finding.rule.to_owned(),
            severity: finding.severity,
            confidence: finding.known().0,
            spoofable: String::new(),
            first_seen: finding.first,
            last_seen: finding.last,
            probes: finding.probes(),
            said: None,
            reason: finding.reason.clone(),
            policy: String::new(),
        };
        let explain = |who: &str| leaving.reports(&glob::Pattern::new(who).unwrap(), now(6), evidence);
        let scanner = explain("python3");
        let [report] = scanner.actors.as_slice() else { panic!("{scanner:?}") };
        assert!(report.verdict.starts_with("blocked for"), "{report:?}");
        assert!(report.findings[0].policy.starts_with("blocked for"), "{report:?}");
        assert_eq!((report.attempts.as_slice(), report.answered), (&[("syn".to_owned(), 60)][..], 0));
        let client = explain("/usr/bin/c*");
        let [report] = client.actors.as_slice() else { panic!("{client:?}") };
        assert_eq!(report.verdict, "not blocked: it has no open finding");
        let sweep = report.short_of.iter().find(|(rule, _)| rule == "outbound_sweep");
        assert_eq!(sweep.map(|(_, said)| said.as_str()), Some("5 of 32 addresses failed"), "{report:?}");
        assert_eq!(explain("web.service").matching, 2);
        assert_eq!(explain("nobody").matching, 0);
        std::fs::remove_dir_all(config.response.state.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_wrong_is_moved_aside_and_learning_begins_anew() {
        let config = config("wrong");
        let path = file::beside(&config.response.state);
        std::fs::write(&path, "{").unwrap();
        let leaving = start(&config, Box::new(FakeActors::new()), 100);
        assert_eq!(leaving.list(10).known, 0);
        assert!(!path.exists() && path.with_file_name("actors.json.corrupt-19700101T000140Z").exists());
        leaving.close(&metrics()).await;
        assert!(path.exists());
        std::fs::remove_dir_all(config.response.state.parent().unwrap()).unwrap();
    }

    #[test]
    fn rules_that_are_switched_off_by_a_reload_tell_nothing() {
        let mut config = config("reload");
        let mut leaving = start(&config, sweeping(), 0);
        let text = "[rules.outbound_sweep]\nenabled = false\n[rules.outbound_sequential]\nenabled = false\n";
        config.rules = Config::parse(text).unwrap().rules;
        leaving.reconfigure(&config);
        assert_eq!(rules(&mut leaving, [1, 5]), Vec::<&str>::new());
        std::fs::remove_dir_all(config.response.state.parent().unwrap()).unwrap();
    }
}
