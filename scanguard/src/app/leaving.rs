//! What leaves this host: the sensor of actors, what is made of it, and the file of what was learned.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use scanguard_common::address::Address;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::{
    apply,
    clock::Now,
    config::Config,
    control::listing::{Actors, Program},
    detect::findings::{Event, Finding},
    observe::greatest,
    outbound::{
        baseline::Baseline,
        file,
        metrics::OutboundMetrics,
        users::{self, Users},
    },
    pipeline::outbound::Outbound,
    sensor::{
        ActorSensor, SensorError,
        outbound::{
            self, KernelActors, OutboundError,
            calls::{self, Call},
            metrics::ActorMetrics,
        },
    },
};

/// How often what was learned is written, if it has changed.
const WRITE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long the agent's end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// What leaves, where it can be seen.
pub(super) struct Leaving {
    sensor: Box<dyn ActorSensor + Send>,
    outbound: Outbound,
    /// Actors in the kernel's table.
    entries: u64,
    path: PathBuf,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// When it was last written.
    written: Option<Instant>,
    /// The file could not be read nor moved aside, and is not overwritten.
    blocked: bool,
}

/// The sensor of actors, and the programs for it that are attached.
pub(super) struct Programs {
    sensor: Box<dyn ActorSensor + Send>,
    calls: Vec<Call>,
}

/// The sensor of actors, if the kernel takes the programs for it. Each of those that see calls is there for itself.
///
/// # Errors
/// The object was built for another agent.
pub(super) fn programs(
    ebpf: &mut aya::Ebpf,
    loaded: Result<(), OutboundError>,
) -> Result<Option<Programs>, SensorError> {
    match loaded {
        Ok(()) => {}
        Err(OutboundError::Off) => return Ok(None),
        Err(error) => {
            tracing::warn!("{error}; {}", outbound::LOSS);
            return Ok(None);
        }
    }
    let mut calls = Vec::new();
    for (call, attached) in calls::attach(ebpf) {
        match attached {
            Ok(()) => calls.push(call),
            Err(error) => {
                tracing::warn!("the program that sees {}: {error}; {}", call.label(), call.loss());
            }
        }
    }
    Ok(Some(Programs { sensor: Box::new(KernelActors::new(ebpf)?), calls }))
}

impl Leaving {
    /// Starts with what was learned before. Names of users are read here, while everything can still be read.
    pub(super) fn start(
        config: &Config,
        programs: Programs,
        metrics: (&OutboundMetrics, &ActorMetrics),
        now: Now,
    ) -> Self {
        let Programs { sensor, calls } = programs;
        metrics.1.connections_attached(true);
        calls.into_iter().for_each(|call| metrics.1.attached(call, true));
        let path = file::beside(&config.response.state);
        let learning = config.outbound.learning;
        let (baseline, blocked) = match file::read(&path, now.wall, learning) {
            Ok(baseline) => (baseline, false),
            Err(error) => {
                metrics.0.state_failed();
                let moved = file::move_aside(&path, now.wall);
                let (name, what) = (path.display(), "it is learned anew who uses the network");
                match &moved {
                    Ok(moved) => {
                        tracing::error!("{name} is wrong ({error}): moved to {}; {what}", moved.display())
                    }
                    Err(why) => tracing::error!("{name} is wrong ({error}), and stays ({why}); {what}"),
                }
                (Baseline::new(now.wall, learning), moved.is_err())
            }
        };
        tracing::info!("what leaves is looked at; learning ends {:.0}", baseline.learned_at());
        let users = Users::read(Path::new(users::FILE));
        let outbound = apply::outbound(config, baseline, users);
        Self { sensor, outbound, entries: 0, path, writing: None, written: None, blocked }
    }

    /// Applies a new configuration.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        apply::to_outbound(config, &mut self.outbound);
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

    /// Replaces the networks that are known here.
    pub(super) fn set_networks(&mut self, own: Vec<IpNet>, near: Vec<IpNet>) {
        self.outbound.set_networks(own, near);
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
            Ok(outcome) => self.entries = outcome.poll.entries,
            Err(error) => {
                metrics.poll_failed();
                tracing::error!("poll of what leaves: {error}");
            }
        }
        let outbound = &self.outbound;
        metrics.state(outbound.pipeline.detector.tracker().actors(), &outbound.baseline);
    }

    /// Exports what the kernel looked at.
    pub(super) fn export(&mut self, metrics: &ActorMetrics) {
        if let Some(tally) = self.sensor.looked_at() {
            metrics.polled(&tally, self.entries);
        }
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

    /// Forgets the programs that match. Returns how many there were.
    pub(super) fn forget(&mut self, pattern: &glob::Pattern) -> usize {
        // It must not come back after a restart.
        self.written = None;
        self.outbound.baseline.forget(pattern)
    }
}
