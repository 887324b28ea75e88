//! Metrics of findings, and of the sources that detection left out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{
    Detector,
    findings::{EventKind, Tracker},
};
use crate::metrics::{Register, level, raise};

/// Buckets from 50 µs to 1 s: after that time the poll would have found the source.
const DETECTION_BUCKETS: [f64; 13] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0];

/// The metrics.
pub struct DetectionMetrics {
    detection: Histogram,
    findings: IntCounterVec,
    findings_open: IntGaugeVec,
    findings_refused: IntCounter,
    findings_displaced: IntCounter,
    findings_suppressed: IntCounter,
    lockstep_left_out: IntCounter,
    campaigns_given_up: IntCounter,
    prefixes_left_out: IntCounter,
    feed_networks: IntGauge,
    /// All rules since the start. A rule that a reload removed stays here, so that its open findings show as zero.
    rules: Mutex<BTreeSet<&'static str>>,
}

impl DetectionMetrics {
    pub(crate) fn new(
        register: &Register,
        max_open: u32,
        rules: impl Iterator<Item = &'static str>,
    ) -> prometheus::Result<Self> {
        register
            .gauge("scanguard_findings_open_limit", "Findings that can be open at once.")?
            .set(max_open.into());
        let metrics = Self {
            detection: register.histogram(
                "scanguard_detection_latency_seconds",
                "Time from the packet that made the kernel wake the agent to the finding that follows from it.",
                &DETECTION_BUCKETS,
            )?,
            findings: register.counters(
                "scanguard_findings_total",
                "Reports of findings, by rule and event (opened, updated, closed).",
                &["rule", "event"],
            )?,
            findings_open: register.gauges(
                "scanguard_findings_open",
                "Findings that are open.",
                &["rule"],
            )?,
            findings_refused: register.counter(
                "scanguard_findings_refused_total",
                "Times that a rule matched and no finding was opened: there was no room, and all others were worth more. \
                 Bans and shields are made all the same.",
            )?,
            findings_displaced: register.counter(
                "scanguard_findings_displaced_total",
                "Findings that were closed to make room for others that are worth more.",
            )?,
            findings_suppressed: register.counter(
                "scanguard_findings_suppressed_total",
                "Times that a rule matched again and nothing was reported, because its finding was open.",
            )?,
            lockstep_left_out: register.counter(
                "scanguard_lockstep_left_out_total",
                "Sources that the search for decoys left out because there were too many.",
            )?,
            prefixes_left_out: register.counter(
                "scanguard_prefixes_left_out_total",
                "Times that the search for scans of IPv6 prefixes left one out because there were too many.",
            )?,
            campaigns_given_up: register.counter(
                "scanguard_campaign_targets_given_up_total",
                "Targets that the search for distributed scans gave up because there were too many.",
            )?,
            feed_networks: register.gauge(
                "scanguard_feed_networks",
                "Networks in the feeds of known-bad sources; networks that touch each other count as one.",
            )?,
            rules: Mutex::default(),
        };
        metrics.add_rules(rules);
        Ok(metrics)
    }

    /// Creates the series of these rules; new ones start at zero.
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

    /// Records the time from the packet that the kernel reported to the opened finding.
    pub fn found_after(&self, latency: Duration) {
        self.detection.observe(latency.as_secs_f64());
    }

    /// Updates the metrics from the state of detection after a poll.
    ///
    /// `leaving` is the detector of what leaves.
    pub fn state(&self, detector: &Detector, leaving: Option<&Detector>) {
        let trackers = || [Some(detector), leaving].into_iter().flatten().map(Detector::tracker);
        let sum = |of: fn(&Tracker) -> u64| trackers().map(of).sum();
        raise(&self.findings_refused, sum(Tracker::refused));
        raise(&self.findings_displaced, sum(Tracker::displaced));
        raise(&self.findings_suppressed, sum(Tracker::suppressed));
        raise(&self.lockstep_left_out, detector.lockstep_left_out());
        raise(&self.campaigns_given_up, detector.campaigns_given_up());
        raise(&self.prefixes_left_out, detector.prefixes_left_out());
        self.feed_networks.set(level(detector.feeds().len()));
        // Counted from scratch, since a finding may move from one rule to another.
        let mut open: HashMap<_, i64> = HashMap::new();
        for rule in trackers().flat_map(Tracker::open).map(|finding| finding.rule) {
            *open.entry(rule).or_default() += 1;
        }
        for rule in self.rules.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.findings_open.with_label_values(&[rule]).set(open.get(rule).copied().unwrap_or(0));
        }
    }

    /// Counts an event of a finding.
    pub fn reported(&self, rule: &str, event: EventKind) {
        self.findings.with_label_values(&[rule, event.label()]).inc();
    }
}
