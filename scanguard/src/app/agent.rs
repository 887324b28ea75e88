//! The agent: what a poll needs, and what is done with what it gives.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use scanguard_common::address::Address;

use super::reload::{read_feeds, use_geo};
use crate::{
    clock::{Clock, monotonic},
    config::Config,
    content::{Utterance, parse::parse, sample::Sample},
    detect::{
        Detector,
        findings::{Event, EventKind, Finding},
    },
    export::{
        findings::{FindingsWriter, Format},
        http::{Health, Shared},
        metrics::{Limits, Metrics},
    },
    logs::task::Logs,
    network::Network,
    observe::Observer,
    pipeline::Pipeline,
    respond::{keeper::Keeper, responder::Responder},
    sensor::{attach::Attachments, kernel::KernelSensor, trips::Told},
};

/// How often the maps of what answered are counted through, which takes milliseconds when they are full.
const OCCUPANCY_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that a poll needs.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) sensor: KernelSensor,
    pub(super) attachments: Attachments,
    pub(super) network: Network,
    /// When the addresses were looked at last; none: the networks beside them have changed since.
    pub(super) addresses_read: Option<Instant>,
    /// When the occupancy of the maps of what answered was looked at last.
    pub(super) occupancy_read: Option<Instant>,
    pub(super) pipeline: Pipeline,
    pub(super) writer: FindingsWriter<std::io::Stdout>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) responder: Responder,
    pub(super) keeper: Keeper,
    /// The time of day of the poll before.
    pub(super) last_poll: jiff::Timestamp,
}

impl Agent {
    pub(super) fn new(
        config: &Config,
        mut sensor: KernelSensor,
        attachments: Attachments,
        network: Network,
        format: Format,
    ) -> Result<Self> {
        let mut detector = Detector::new(config.rules.rules(), config.findings);
        read_feeds(&mut detector, config);
        use_geo(&mut detector, config);
        detector.set_content(config.content.clone());
        sensor.set_trip(detector.soonest()).context("the trip threshold")?;
        let mut pipeline = Pipeline::new(Observer::new(config.history), detector);
        let Pipeline { observer, detector, .. } = &mut pipeline;
        let epoch = sensor.epoch();
        let before = sensor.read_before(&mut |source, state| observer.resume(source, state, epoch));
        let limits = Limits {
            sources: config.sensor.max_sources,
            history: config.history.max_sources,
            findings: config.findings.max_open,
            visitors: config.content.max_visitors,
        };
        let metrics = Metrics::new(limits, detector.rules()).context("the metrics")?;
        if let Some(poll) = before.context("the sources that were taken over")? {
            pipeline.resume(&poll);
        }
        for (interface, mode) in attachments.states() {
            metrics.attached(interface, mode);
            if let Some(mode) = mode {
                tracing::info!(interface, %mode, "attached");
            }
        }
        for (interface, attached) in attachments.egress_states() {
            metrics.egress_attached(interface, attached);
        }
        let health = Health::default();
        health.attached.store(true, Ordering::Relaxed);
        let clock = Clock::start();
        let now = clock.now();
        let of_response = &metrics.response;
        let (keeper, state) = Keeper::open(config.response.state.clone(), Arc::clone(of_response), now);
        let prefix = config.sensor.ipv6_prefix;
        let responder = Responder::new(config.response.clone(), prefix, state, Arc::clone(of_response), now);
        Ok(Self {
            config: config.clone(),
            clock,
            sensor,
            attachments,
            network,
            addresses_read: Some(Instant::now()),
            occupancy_read: None,
            pipeline,
            writer: FindingsWriter::stdout(format, config.sensor.ipv6_prefix),
            metrics: Arc::new(metrics),
            health: Arc::new(health),
            responder,
            keeper,
            last_poll: now.wall,
        })
    }

    pub(super) fn shared(&self) -> Shared {
        Shared { metrics: Arc::clone(&self.metrics), health: Arc::clone(&self.health) }
    }

    /// Follows the access logs as they are configured now.
    pub(super) fn follow_logs(&self) -> Logs {
        Logs::follow(&self.config.logs, self.config.sensor.ipv6_prefix, &self.metrics.logs)
    }

    pub(super) async fn chores(&mut self) {
        let now = self.clock.now();
        self.responder.chores(now, &mut self.sensor);
        self.keeper.keep(&mut self.responder, now).await;
    }

    /// Looks at sources that the program told of.
    pub(super) fn look(&mut self, told: &Told) {
        for (source, at) in &told.sources {
            let Self { clock, sensor, pipeline, writer, metrics, .. } = self;
            let mut opened = false;
            let mut findings = Vec::new();
            let result = pipeline.look(sensor, source, clock.now(), &mut |event| {
                opened |= event.kind == EventKind::Opened;
                tell(writer, metrics, &event);
                findings.extend(to_consider(event));
            });
            self.respond(&findings, std::slice::from_ref(source));
            if let Err(error) = result {
                tracing::warn!("a source could not be looked at, the next poll will: {error}");
            }
            if opened {
                self.metrics.found_after(monotonic().saturating_sub(*at));
            }
        }
    }

    /// Takes what the program copied of what clients said and were answered.
    pub(super) fn hear_samples(&mut self, samples: &[Sample<Vec<u8>>]) {
        self.metrics.heard(samples.len());
        let said: Vec<_> = samples.iter().flat_map(parse).collect();
        self.hear(&said);
    }

    /// Takes what access logs have.
    pub(super) fn hear_logs(&mut self, said: &[Utterance]) {
        self.metrics.logs.heard(said.len());
        self.hear(said);
    }

    fn hear(&mut self, said: &[Utterance]) {
        let Self { clock, pipeline, writer, metrics, .. } = self;
        let now = clock.now();
        let mut findings = Vec::new();
        for utterance in said {
            pipeline.hear(utterance, now, &mut |event| {
                tell(writer, metrics, &event);
                findings.extend(to_consider(event));
            });
        }
        let mut sources: Vec<_> = said.iter().map(|utterance| utterance.source).collect();
        sources.sort_unstable();
        sources.dedup();
        self.respond(&findings, &sources);
    }

    /// Bans who is to be banned for findings that are new or changed, and for those of these sources that go on: they are
    /// told only now and then, but their source may be banned now.
    fn respond(&mut self, findings: &[Finding], sources: &[Address]) {
        let Self { clock, sensor, pipeline, responder, .. } = self;
        let now = clock.now();
        for finding in findings {
            responder.consider(finding, now, sensor);
        }
        let tracker = pipeline.detector.tracker();
        let mut going_on = sources.iter().flat_map(|source| tracker.of(source));
        responder.reconsider(&mut going_on, now, sensor);
    }

    pub(super) async fn poll(&mut self) {
        self.supervise().await;
        self.refresh_addresses().await;
        // A poll of a large table takes a while, during which requests are to be answered.
        tokio::task::block_in_place(|| self.read());
    }

    fn read(&mut self) {
        let Self { clock, sensor, pipeline, writer, metrics, health, responder, last_poll, .. } = self;
        let started = Instant::now();
        let now = clock.now();
        // No more than findings can be open.
        let mut findings = Vec::new();
        let result = pipeline.poll(sensor, now, &mut |event| {
            tell(writer, metrics, &event);
            findings.extend(to_consider(event));
        });
        for finding in findings {
            responder.consider(&finding, now, sensor);
        }
        let open = pipeline.detector.tracker().open();
        responder.reconsider(&mut open.filter(|finding| finding.last >= *last_poll), now, sensor);
        *last_poll = now.wall;
        health.polled.store(result.is_ok(), Ordering::Relaxed);
        match result {
            Ok(outcome) => {
                metrics.polled(&outcome.poll, &outcome.delta, outcome.evicted, started.elapsed());
            }
            Err(error) => {
                metrics.poll_failed();
                tracing::error!("poll: {error}");
            }
        }
        metrics.state(&pipeline.observer, &pipeline.detector);
        self.read_occupancy();
    }

    fn read_occupancy(&mut self) {
        if self.occupancy_read.is_some_and(|read| read.elapsed() < OCCUPANCY_INTERVAL) {
            return;
        }
        self.occupancy_read = Some(Instant::now());
        match self.sensor.occupancy() {
            Ok(occupancy) => self.metrics.occupancy(occupancy),
            Err(error) => tracing::error!("how full the maps are cannot be told: {error}"),
        }
    }

    /// Reads what is left, closes all findings and detaches.
    pub(super) async fn finish(mut self) {
        self.read();
        self.keeper.close(&mut self.responder, self.clock.now()).await;
        let Self { clock, mut pipeline, mut writer, metrics, attachments, .. } = self;
        pipeline.detector.close_all(clock.now(), &mut |event| tell(&mut writer, &metrics, &event));
        let names = attachments.states().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        if let Some(path) = attachments.persists_at() {
            let path = path.display();
            tracing::info!(
                "stays attached to {names}: counting and dropping go on until an agent takes over, or `scanguard \
                 detach --pin {path}` ends it"
            );
            return;
        }
        drop(attachments);
        tracing::info!("detached from {names}");
    }
}

/// The finding of an event after which somebody may have to be banned.
fn to_consider(event: Event) -> Option<Finding> {
    match event.kind {
        EventKind::Opened | EventKind::Updated => Some(event.finding),
        EventKind::Closed => None,
    }
}

fn tell(writer: &mut FindingsWriter<std::io::Stdout>, metrics: &Metrics, event: &Event) {
    metrics.told(event.finding.rule, event.kind);
    if let Err(error) = writer.write(event) {
        metrics.output_failed();
        // The reader of a pipe may have gone; the metrics still tell.
        tracing::warn!("a finding could not be written: {error}");
    }
}
