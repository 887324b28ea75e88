//! All metrics, by Prometheus's naming rules. No source address is a label, but in [`TopSources`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use prometheus::{
    Encoder as _, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};
use scanguard_common::{
    abi,
    content::Begins,
    oracle::Reach,
    outcome::{Answer, EgressExit, Exit, ProbeClass},
    sample::LeftOut,
    tally::Tally,
};

use super::{page::metrics::PageMetrics, sinks::metrics::SinkMetrics, top_sources::TopSources};
use crate::{
    control::metrics::ControlMetrics,
    crowdsec::metrics::CrowdsecMetrics,
    detect::{Detector, findings::EventKind},
    http_server::metrics::ListenerMetrics,
    logs::metrics::LogMetrics,
    metrics::{Described, Register, level, raise},
    observe::Observer,
    respond::metrics::ResponseMetrics,
    sandbox::metrics::SandboxMetrics,
    sensor::{Occupancy, Poll, Whole, attach::AttachedMode},
    stdio,
};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The agent's metrics. Cheap to share by reference; every update is atomic.
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    packets: IntCounterVec,
    probes: IntCounterVec,
    reached: IntCounterVec,
    answers: IntCounterVec,
    egress: IntCounterVec,
    attached: IntGaugeVec,
    egress_attached: IntGaugeVec,
    connections_attached: IntGauge,
    live: IntGauge,
    published: IntGauge,
    interface_losses: IntCounterVec,
    egress_losses: IntCounterVec,
    sources: IntGauge,
    source_inserts: IntCounter,
    source_evictions: IntCounter,
    history_sources: IntGauge,
    history_evictions: IntCounter,
    visitors: IntGauge,
    visitor_evictions: IntCounter,
    polls: Histogram,
    poll_errors: IntCounter,
    whole_reads: IntCounterVec,
    trips: IntCounter,
    trips_lost: IntCounter,
    samples: IntCounterVec,
    samples_left_out: IntCounterVec,
    samples_heard: IntCounter,
    would_drop: IntCounter,
    spared: IntCounter,
    holds: IntCounter,
    holds_refused: IntCounter,
    detection: Histogram,
    findings: IntCounterVec,
    findings_open: IntGaugeVec,
    /// All that ever were: one that a reload removed has no open findings any more, which is to be seen.
    rules: Mutex<BTreeSet<&'static str>>,
    findings_refused: IntCounter,
    findings_suppressed: IntCounter,
    lockstep_left_out: IntCounter,
    campaigns_given_up: IntCounter,
    feed_networks: IntGauge,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    log_lines_lost: IntCounter,
    /// Those of bans and shields.
    pub response: Arc<ResponseMetrics>,
    /// Those of requests at the control socket.
    pub control: Arc<ControlMetrics>,
    /// Those of what is exchanged with CrowdSec.
    pub crowdsec: Arc<CrowdsecMetrics>,
    /// Those of who connects.
    pub listeners: ListenerMetrics,
    /// Those of access logs.
    pub logs: Arc<LogMetrics>,
    /// Those of the page.
    pub page: Arc<PageMetrics>,
    /// Those of what the agent has given up.
    pub sandbox: SandboxMetrics,
    /// Those of alert sinks.
    pub sinks: Arc<SinkMetrics>,
    /// The sources that probe fastest.
    pub top_sources: TopSources,
}

/// From 1 ms, which is an idle poll, to 4 s, which is a hopelessly large table.
const POLL_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0];

/// From 50 µs to 1 s, at which the poll would have found it.
const DETECTION_BUCKETS: [f64; 13] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0];

/// Caps that never change, exported beside what they limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of the kernel's table.
    pub sources: u32,
    /// Histories.
    pub history: u32,
    /// Open findings.
    pub findings: u32,
    /// Sources of which it is remembered what they said.
    pub visitors: u32,
}

impl Metrics {
    /// All metrics, at zero, for rules of these names.
    ///
    /// # Errors
    /// Two metrics have one name: a mistake in this file.
    pub fn new(limits: Limits, rules: impl Iterator<Item = &'static str>) -> prometheus::Result<Self> {
        let register = Register::default();
        let build = register.gauges(
            "scanguard_build_info",
            "Version of the agent, as labels; always 1.",
            &["version", "revision"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("SCANGUARD_REVISION")]).set(1);
        register
            .gauge("scanguard_sources_limit", "Sources that the kernel's table can hold.")?
            .set(limits.sources.into());
        register
            .gauge("scanguard_history_sources_limit", "Sources whose history can be kept.")?
            .set(limits.history.into());
        register
            .gauge(
                "scanguard_content_visitors_limit",
                "Sources of which it can be remembered what they said.",
            )?
            .set(limits.visitors.into());
        register
            .gauge("scanguard_findings_open_limit", "Findings that can be open at once.")?
            .set(limits.findings.into());
        register
            .gauge("scanguard_live_addresses_limit", "Addresses that the kernel's table of them can hold.")?
            .set(abi::MAX_LIVE.into());
        register
            .gauge(
                "scanguard_published_services_limit",
                "Services that the kernel's table of them can hold.",
            )?
            .set(abi::MAX_PUBLISHED.into());
        let metrics = Self {
            packets: register.counters(
                "scanguard_packets_total",
                "Packets seen by the kernel program, by how they left it. The sum is all packets.",
                &["exit"],
            )?,
            probes: register.counters(
                "scanguard_probes_total",
                "Probes seen by the kernel program, by class; exact also when the table of sources is full.",
                &["class"],
            )?,
            reached: register.counters(
                "scanguard_probes_reached_total",
                "The same probes, by what they met.",
                &["reach"],
            )?,
            answers: register.counters(
                "scanguard_answers_total",
                "Answers that left by the interfaces where the egress program is attached, by kind.",
                &["answer"],
            )?,
            egress: register.counters(
                "scanguard_egress_packets_total",
                "Packets seen by the egress program, by how they left it. The sum is all packets.",
                &["exit"],
            )?,
            egress_attached: register.gauges(
                "scanguard_egress_attached",
                "Whether what leaves by the interface is looked at.",
                &["interface"],
            )?,
            connections_attached: register.gauge(
                "scanguard_connections_attached",
                "Whether the kernel says which connections are completed; if not, nothing on the wire is proven.",
            )?,
            egress_losses: register.counters(
                "scanguard_egress_losses_total",
                "Times that the egress program was taken off the interface by force.",
                &["interface"],
            )?,
            live: register.gauge(
                "scanguard_live_addresses",
                "Addresses of networks routed to this host from which somebody answered.",
            )?,
            published: register.gauge(
                "scanguard_published_services",
                "Services that answered from this host's addresses without having a socket here.",
            )?,
            attached: register.gauges(
                "scanguard_xdp_attached",
                "Whether the program is attached to the interface in this mode.",
                &["interface", "mode"],
            )?,
            interface_losses: register.counters(
                "scanguard_interface_losses_total",
                "Times that an interface went away, or the program was taken off it by force.",
                &["interface"],
            )?,
            sources: register.gauge("scanguard_sources", "Sources in the kernel's table.")?,
            source_inserts: register
                .counter("scanguard_source_inserts_total", "Sources put into the kernel's table.")?,
            source_evictions: register.counter(
                "scanguard_source_evictions_total",
                "Sources that the kernel evicted from its table to make room.",
            )?,
            history_sources: register
                .gauge("scanguard_history_sources", "Sources whose history the agent keeps.")?,
            history_evictions: register.counter(
                "scanguard_history_evictions_total",
                "Histories given up because there were too many.",
            )?,
            visitors: register
                .gauge("scanguard_content_visitors", "Sources of which it is remembered what they said.")?,
            visitor_evictions: register.counter(
                "scanguard_content_visitor_evictions_total",
                "Sources of which it was forgotten what they said because there were too many.",
            )?,
            polls: register.histogram(
                "scanguard_poll_duration_seconds",
                "Time to read the kernel's counters and apply the rules.",
                &POLL_BUCKETS,
            )?,
            poll_errors: register
                .counter("scanguard_poll_errors_total", "Polls that failed; the next one makes up for it.")?,
            whole_reads: register.counters(
                "scanguard_whole_table_reads_total",
                "Polls that read all of the kernel's table rather than what has changed in it, by why.",
                &["reason"],
            )?,
            trips: register.counter(
                "scanguard_trips_total",
                "Times that the kernel program told the agent of a source at once.",
            )?,
            trips_lost: register.counter(
                "scanguard_trips_lost_total",
                "Times that there was no room to tell the agent of a source; the next poll saw to it.",
            )?,
            samples: register.counters(
                "scanguard_samples_total",
                "Payloads whose beginning the kernel program handed to the agent, by what they begin like.",
                &["begins"],
            )?,
            samples_left_out: register.counters(
                "scanguard_samples_left_out_total",
                "Payloads that begin like something and were not handed to the agent, by the reason.",
                &["reason"],
            )?,
            samples_heard: register
                .counter("scanguard_samples_heard_total", "Samples that the agent read.")?,
            would_drop: register.counter(
                "scanguard_would_drop_packets_total",
                "Packets of sources banned, held or shielded from that would have been dropped, were that enforced.",
            )?,
            spared: register.counter(
                "scanguard_spared_packets_total",
                "Packets of sources that are allowed, and banned, held or shielded from: they passed.",
            )?,
            holds: register.counter(
                "scanguard_holds_total",
                "Sources that the kernel program held until they were judged, or would have in a dry run.",
            )?,
            holds_refused: register.counter(
                "scanguard_holds_refused_total",
                "Sources that were not held because as many were as may be banned within a minute.",
            )?,
            detection: register.histogram(
                "scanguard_detection_latency_seconds",
                "Time from the packet that the kernel told of to the finding that it led to.",
                &DETECTION_BUCKETS,
            )?,
            findings: register.counters(
                "scanguard_findings_total",
                "Findings by rule, and by what was told of them.",
                &["rule", "event"],
            )?,
            findings_open: register.gauges(
                "scanguard_findings_open",
                "Findings that are open.",
                &["rule"],
            )?,
            findings_refused: register.counter(
                "scanguard_findings_refused_total",
                "Findings that were not opened because too many were open.",
            )?,
            findings_suppressed: register.counter(
                "scanguard_findings_suppressed_total",
                "Times that a rule matched again and nothing was told, since its finding was open.",
            )?,
            lockstep_left_out: register.counter(
                "scanguard_lockstep_left_out_total",
                "Looks at sources that were not compared for decoys because there were too many.",
            )?,
            campaigns_given_up: register.counter(
                "scanguard_campaign_targets_given_up_total",
                "Targets that were no longer looked at for distributed scans because there were too many.",
            )?,
            feed_networks: register.gauge(
                "scanguard_feed_networks",
                "Networks in the feeds of known-bad sources, those that touch each other joined.",
            )?,
            reloads: register.counters(
                "scanguard_config_reloads_total",
                "Times that the configuration was read again, by outcome.",
                &["outcome"],
            )?,
            reload_successful: register.gauge(
                "scanguard_config_last_reload_successful",
                "Whether the configuration was taken when it was read last.",
            )?,
            log_lines_lost: register.counter(
                "scanguard_log_lines_lost_total",
                "Lines of the agent's own log that could not be written to standard error.",
            )?,
            response: Arc::new(ResponseMetrics::new(&register)?),
            control: Arc::new(ControlMetrics::new(&register)?),
            crowdsec: Arc::new(CrowdsecMetrics::new(&register)?),
            listeners: ListenerMetrics::new(&register)?,
            logs: Arc::new(LogMetrics::new(&register)?),
            page: Arc::new(PageMetrics::new(&register)?),
            sandbox: SandboxMetrics::new(&register)?,
            top_sources: TopSources::new(&register)?,
            sinks: Arc::new(SinkMetrics::new(&register)?),
            rules: Mutex::default(),
            described: register.described.into_inner(),
            registry: register.registry,
        };
        for exit in Exit::ALL {
            metrics.packets.with_label_values(&[exit.label()]);
        }
        for class in ProbeClass::ALL {
            metrics.probes.with_label_values(&[class.label()]);
        }
        metrics.add_rules(rules);
        for outcome in ["success", "failure"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        for reach in Reach::ALL {
            metrics.reached.with_label_values(&[reach.label()]);
        }
        for answer in Answer::ALL {
            metrics.answers.with_label_values(&[answer.label()]);
        }
        for exit in EgressExit::ALL {
            metrics.egress.with_label_values(&[exit.label()]);
        }
        for begins in Begins::ALL {
            metrics.samples.with_label_values(&[begins.label()]);
        }
        for why in LeftOut::ALL {
            metrics.samples_left_out.with_label_values(&[why.label()]);
        }
        for whole in Whole::ALL {
            metrics.whole_reads.with_label_values(&[whole.label()]);
        }
        metrics.reload_successful.set(1);
        metrics.add_process_metrics()?;
        Ok(metrics)
    }

    /// Shows the series of these rules, at zero if they are new.
    pub fn add_rules(&self, rules: impl Iterator<Item = &'static str>) {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules {
            known.insert(rule);
            self.findings_open.with_label_values(&[rule]);
            for event in EventKind::ALL {
                self.findings.with_label_values(&[rule, event.label()]);
            }
        }
    }

    /// The configuration was read again.
    pub fn reloaded(&self, successful: bool) {
        let outcome = if successful { "success" } else { "failure" };
        self.reloads.with_label_values(&[outcome]).inc();
        self.reload_successful.set(i64::from(successful));
    }

    fn add_process_metrics(&self) -> prometheus::Result<()> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))
    }

    /// A poll succeeded: `delta` is what the totals grew by since the one before.
    pub fn polled(&self, poll: &Poll, delta: &Tally, evicted: u64, took: Duration) {
        for exit in Exit::ALL {
            self.packets.with_label_values(&[exit.label()]).inc_by(delta.exit(exit));
        }
        for class in ProbeClass::ALL {
            self.probes.with_label_values(&[class.label()]).inc_by(delta.probe(class));
        }
        for reach in Reach::ALL {
            self.reached.with_label_values(&[reach.label()]).inc_by(delta.reach(reach));
        }
        for answer in Answer::ALL {
            self.answers.with_label_values(&[answer.label()]).inc_by(delta.answer(answer));
        }
        for exit in EgressExit::ALL {
            self.egress.with_label_values(&[exit.label()]).inc_by(delta.egress(exit));
        }
        for begins in Begins::ALL {
            self.samples.with_label_values(&[begins.label()]).inc_by(delta.sampled(begins));
        }
        for why in LeftOut::ALL {
            self.samples_left_out.with_label_values(&[why.label()]).inc_by(delta.left_out(why));
        }
        self.sources.set(poll.entries.cast_signed());
        self.source_inserts.inc_by(delta.inserted);
        self.trips.inc_by(delta.wakeups);
        self.trips_lost.inc_by(delta.wakeups_lost);
        self.would_drop.inc_by(delta.would_drop);
        self.spared.inc_by(delta.spared);
        self.holds.inc_by(delta.holds);
        self.holds_refused.inc_by(delta.holds_refused);
        self.source_evictions.inc_by(evicted);
        if let Some(whole) = poll.whole {
            self.whole_reads.with_label_values(&[whole.label()]).inc();
        }
        self.polls.observe(took.as_secs_f64());
    }

    /// So many samples were read.
    pub fn heard(&self, count: usize) {
        self.samples_heard.inc_by(count as u64);
    }

    /// A finding was opened so long after the packet that the kernel told of.
    pub fn found_after(&self, latency: Duration) {
        self.detection.observe(latency.as_secs_f64());
    }

    /// A poll failed.
    pub fn poll_failed(&self) {
        self.poll_errors.inc();
    }

    /// The state of the histories and findings after a poll.
    pub fn state(&self, observer: &Observer, detector: &Detector) {
        let tracker = detector.tracker();
        self.history_sources.set(level(observer.len()));
        raise(&self.history_evictions, observer.evictions());
        raise(&self.log_lines_lost, stdio::lost());
        self.visitors.set(level(detector.visitors().len()));
        raise(&self.visitor_evictions, detector.visitors().evictions());
        raise(&self.findings_refused, tracker.refused());
        raise(&self.findings_suppressed, tracker.suppressed());
        raise(&self.lockstep_left_out, detector.lockstep_left_out());
        raise(&self.campaigns_given_up, detector.campaigns_given_up());
        self.feed_networks.set(level(detector.feeds().len()));
        // Counted anew, since a finding may go from one rule to another.
        let mut open: HashMap<_, i64> = HashMap::new();
        for finding in tracker.open() {
            *open.entry(finding.rule).or_default() += 1;
        }
        for rule in self.rules.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.findings_open.with_label_values(&[rule]).set(open.get(rule).copied().unwrap_or(0));
        }
    }

    /// Something was told of a finding.
    pub fn told(&self, rule: &str, event: EventKind) {
        self.findings.with_label_values(&[rule, event.label()]).inc();
    }

    /// The program is attached to an interface in this mode, or not at all.
    pub fn attached(&self, interface: &str, mode: Option<AttachedMode>) {
        for one in AttachedMode::ALL {
            self.attached.with_label_values(&[interface, one.label()]).set(i64::from(mode == Some(one)));
        }
        self.interface_losses.with_label_values(&[interface]);
    }

    /// The kernel says which connections are completed, or does not.
    pub fn connections_attached(&self, attached: bool) {
        self.connections_attached.set(attached.into());
    }

    /// What leaves by an interface is looked at, or not.
    pub fn egress_attached(&self, interface: &str, attached: bool) {
        self.egress_attached.with_label_values(&[interface]).set(attached.into());
        self.egress_losses.with_label_values(&[interface]);
    }

    /// The egress program was taken off an interface.
    pub fn egress_lost(&self, interface: &str) {
        self.egress_losses.with_label_values(&[interface]).inc();
    }

    /// How full the maps of what answered are.
    pub fn occupancy(&self, occupancy: Occupancy) {
        self.live.set(occupancy.live.cast_signed());
        self.published.set(occupancy.published.cast_signed());
    }

    /// An interface went away.
    pub fn interface_lost(&self, interface: &str) {
        self.interface_losses.with_label_values(&[interface]).inc();
        self.attached(interface, None);
    }

    /// What each of ScanGuard's own metrics is, in the order of their names. Those of the process are
    /// [those of every Prometheus client](https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
    pub fn described(&self) -> Vec<Described> {
        let mut described = self.described.clone();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        described
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A metric is not consistent: a mistake in this file.
    pub fn encode(&self) -> prometheus::Result<Bytes> {
        let mut page = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page.into())
    }
}
