//! All metrics together: those of each subsystem, from its `metrics.rs`, and those of the agent as a whole. Names
//! follow Prometheus's rules. Source addresses are labels only in [`TopSources`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus::{Encoder as _, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder};
use scanguard_common::tally::Tally;

use super::{page::metrics::PageMetrics, sinks::metrics::SinkMetrics, top_sources::TopSources};
use crate::{
    content::metrics::ContentMetrics,
    control::metrics::ControlMetrics,
    crowdsec::metrics::CrowdsecMetrics,
    detect::metrics::DetectionMetrics,
    fleet::metrics::FleetMetrics,
    http_server::metrics::ListenerMetrics,
    logs::metrics::LogMetrics,
    metrics::{Described, Register, raise},
    observe::metrics::HistoryMetrics,
    outbound::metrics::OutboundMetrics,
    pipeline::Pipeline,
    respond::metrics::ResponseMetrics,
    sandbox::metrics::SandboxMetrics,
    sensor::{Poll, metrics::SensorMetrics, outbound::metrics::ActorMetrics},
    stdio,
};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The agent's metrics. Cheap to share by reference; every update is atomic.
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    polls: Histogram,
    poll_errors: IntCounter,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    netlink_overruns: IntCounter,
    log_lines_lost: IntCounter,
    /// Metrics of the kernel programs.
    pub sensor: SensorMetrics,
    /// Metrics of outbound traffic.
    pub outbound: OutboundMetrics,
    /// Metrics of histories.
    pub history: HistoryMetrics,
    /// Metrics of content.
    pub content: ContentMetrics,
    /// Metrics of findings.
    pub detection: DetectionMetrics,
    /// Metrics of bans and shields.
    pub response: Arc<ResponseMetrics>,
    /// Metrics of requests at the control socket.
    pub control: Arc<ControlMetrics>,
    /// Metrics of the exchange with CrowdSec.
    pub crowdsec: Arc<CrowdsecMetrics>,
    /// Metrics of a member of a fleet.
    pub fleet: Arc<FleetMetrics>,
    /// Metrics of connections to the listeners.
    pub listeners: ListenerMetrics,
    /// Metrics of access logs.
    pub logs: Arc<LogMetrics>,
    /// Metrics of the page.
    pub page: Arc<PageMetrics>,
    /// Metrics of the privileges that the agent has given up.
    pub sandbox: SandboxMetrics,
    /// Metrics of alert sinks.
    pub sinks: Arc<SinkMetrics>,
    /// Metrics of those who ask others.
    pub actors: ActorMetrics,
    /// The sources that probe fastest.
    pub top_sources: TopSources,
}

/// From 1 ms, an idle poll, to 4 s, the poll of a far too large table.
const POLL_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0];

/// Limits that never change, exported beside the values that they limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of the kernel's table.
    pub sources: u32,
    /// Histories.
    pub history: u32,
    /// Open findings.
    pub findings: u32,
    /// Sources whose content is remembered.
    pub visitors: u32,
}

impl Metrics {
    /// All metrics, at zero, for rules with these names.
    ///
    /// # Errors
    /// Two metrics have one name: a mistake in the code.
    pub fn new(limits: Limits, rules: impl Iterator<Item = &'static str>) -> prometheus::Result<Self> {
        let register = Register::default();
        let build = register.gauges(
            "scanguard_build_info",
            "Version of the agent, as labels; always 1.",
            &["version", "revision"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("SCANGUARD_REVISION")]).set(1);
        let metrics = Self {
            polls: register.histogram(
                "scanguard_poll_duration_seconds",
                "Time to read the kernel's counters and apply the rules.",
                &POLL_BUCKETS,
            )?,
            poll_errors: register.counter(
                "scanguard_poll_errors_total",
                "Polls that failed; the next poll reads the same data.",
            )?,
            reloads: register.counters(
                "scanguard_config_reloads_total",
                "Reloads of the configuration, by outcome.",
                &["outcome"],
            )?,
            reload_successful: register.gauge(
                "scanguard_config_last_reload_successful",
                "Whether the last reload of the configuration succeeded.",
            )?,
            netlink_overruns: register.counter(
                "scanguard_netlink_overruns_total",
                "How often the kernel could not tell of changed addresses, since too many changed at once. All are read anew then.",
            )?,
            log_lines_lost: register.counter(
                "scanguard_log_lines_lost_total",
                "Lines of the agent's own log that could not be written to standard error.",
            )?,
            sensor: SensorMetrics::new(&register, limits.sources)?,
            outbound: OutboundMetrics::new(&register)?,
            history: HistoryMetrics::new(&register, limits.history)?,
            content: ContentMetrics::new(&register, limits.visitors)?,
            detection: DetectionMetrics::new(&register, limits.findings, rules)?,
            response: Arc::new(ResponseMetrics::new(&register)?),
            control: Arc::new(ControlMetrics::new(&register)?),
            crowdsec: Arc::new(CrowdsecMetrics::new(&register)?),
            fleet: Arc::new(FleetMetrics::new(&register)?),
            listeners: ListenerMetrics::new(&register)?,
            logs: Arc::new(LogMetrics::new(&register)?),
            page: Arc::new(PageMetrics::new(&register)?),
            sandbox: SandboxMetrics::new(&register)?,
            actors: ActorMetrics::new(&register)?,
            top_sources: TopSources::new(&register)?,
            sinks: Arc::new(SinkMetrics::new(&register)?),
            described: register.described.into_inner(),
            registry: register.registry,
        };
        for outcome in ["success", "failure"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics.reload_successful.set(1);
        metrics.add_process_metrics()?;
        Ok(metrics)
    }

    /// How often the kernel could not tell of changed addresses.
    pub fn netlink_overruns(&self, total: u64) {
        raise(&self.netlink_overruns, total);
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, successful: bool) {
        let outcome = if successful { "success" } else { "failure" };
        self.reloads.with_label_values(&[outcome]).inc();
        self.reload_successful.set(i64::from(successful));
    }

    fn add_process_metrics(&self) -> prometheus::Result<()> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))
    }

    /// Notes a successful poll; `delta` is the growth of the totals since the previous one.
    pub fn polled(&self, poll: &Poll, delta: &Tally, evicted: u64, took: Duration) {
        self.sensor.polled(poll, delta, evicted);
        self.polls.observe(took.as_secs_f64());
    }

    /// Counts a failed poll.
    pub fn poll_failed(&self) {
        self.poll_errors.inc();
    }

    /// Notes the state of the histories and findings after a poll, with those of what leaves.
    pub fn state(&self, pipeline: &Pipeline, leaving: Option<&Pipeline>) {
        let Pipeline { observer, detector, streams, .. } = pipeline;
        self.history.state(observer);
        self.content.state(detector.visitors(), streams);
        self.detection.state(detector, leaving.map(|leaving| &leaving.detector));
        raise(&self.log_lines_lost, stdio::lost());
    }

    /// Describes each of ScanGuard's own metrics, ordered by name. The metrics of the process are [those of every
    /// Prometheus client](https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
    pub fn described(&self) -> Vec<Described> {
        let mut described = self.described.clone();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        described
    }

    /// The text for Prometheus.
    ///
    /// # Errors
    /// A metric is not consistent: a mistake in the code.
    pub fn encode(&self) -> prometheus::Result<Bytes> {
        let mut page = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page.into())
    }
}
