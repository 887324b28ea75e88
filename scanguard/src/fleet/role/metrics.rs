//! Metrics of the role. No address is ever a label, and no member's name.

use std::time::Duration;

use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

use crate::{
    fleet::{
        correlate::{Bounds, Correlator},
        snapshot::{Outcome, Unusable},
        wire::{Fault, Verdict},
    },
    http_server::metrics::ListenerMetrics,
    metrics::{Described, Register, level},
};

/// The metrics.
pub struct RoleMetrics {
    registry: Registry,
    /// Metrics of connections to the listener.
    pub listeners: ListenerMetrics,
    described: Vec<Described>,
    messages: IntCounterVec,
    sightings: IntCounterVec,
    faults: IntCounterVec,
    decisions: IntCounterVec,
    not_told: IntCounter,
    snapshots: IntCounterVec,
    held: IntGauge,
    instances: IntGauge,
    connected: IntGauge,
    lag: IntGaugeVec,
    sources: IntGaugeVec,
    in_force: IntGaugeVec,
    members: IntGaugeVec,
    aside: IntGaugeVec,
    left_out: IntGaugeVec,
}

impl RoleMetrics {
    /// All, at zero.
    ///
    /// # Errors
    /// Two metrics have one name: a mistake in the code.
    pub fn new() -> prometheus::Result<Self> {
        let register = Register::default();
        let by_partition = &["partition"];
        let metrics = Self {
            messages: register.counters(
                "scanguard_fleet_run_messages_total",
                "Messages of members that were read, by partition.",
                by_partition,
            )?,
            sightings: register.counters(
                "scanguard_fleet_run_sightings_total",
                "Sightings in them, by partition.",
                by_partition,
            )?,
            faults: register.counters(
                "scanguard_fleet_run_faults_total",
                "Messages that were not used, by what is wrong: too_large, form, too_many, partition or subject.",
                &["fault"],
            )?,
            decisions: register.counters(
                "scanguard_fleet_run_decisions_total",
                "Decisions that were made, by verdict: suspicion or ban.",
                &["verdict"],
            )?,
            not_told: register.counter(
                "scanguard_fleet_run_decisions_not_told_total",
                "Decisions that no server took.",
            )?,
            snapshots: register.counters(
                "scanguard_fleet_run_snapshots_total",
                "Snapshots of partitions: written; not_written (an error); not_written_too_large; loaded by whoever took \
                 the partition over; or why the window was read instead: missing, broken, version, too_large or stale.",
                &["outcome"],
            )?,
            held: register
                .gauge("scanguard_fleet_run_partitions", "Partitions that this instance works on.")?,
            instances: register
                .gauge("scanguard_fleet_run_instances", "Instances that are heard, this one included.")?,
            connected: register
                .gauge("scanguard_fleet_run_connected", "Whether there is a connection to a server.")?,
            lag: register.gauges(
                "scanguard_fleet_run_lag_milliseconds",
                "How old the last message was when it was read, by partition.",
                by_partition,
            )?,
            sources: register.gauges(
                "scanguard_fleet_run_sources",
                "Sources that are remembered, by partition; at most fleet.run.max_sources.",
                by_partition,
            )?,
            in_force: register.gauges(
                "scanguard_fleet_run_decisions_in_force",
                "Decisions in force, by partition.",
                by_partition,
            )?,
            members: register.gauges(
                "scanguard_fleet_run_members",
                "Members that were heard, by partition.",
                by_partition,
            )?,
            aside: register.gauges(
                "scanguard_fleet_run_members_aside",
                "Members that are left aside, since nobody bears out what they say, by partition.",
                by_partition,
            )?,
            left_out: register.gauges(
                "scanguard_fleet_run_left_out",
                "What was left out since the partition was taken: duplicate messages, old sightings, evicted sources, \
                 unknown_members and places (no room), held_back (bans that became suspicions) and not_decided (too many \
                 suspicions).",
                &["partition", "what"],
            )?,
            listeners: ListenerMetrics::new(&register)?,
            registry: register.registry.clone(),
            described: register.described.take(),
        };
        for fault in Fault::ALL {
            metrics.faults.with_label_values(&[fault.label()]);
        }
        for outcome in Outcome::ALL {
            metrics.snapshots.with_label_values(&[outcome.label()]);
        }
        for why in Unusable::ALL {
            metrics.snapshots.with_label_values(&[why.label()]);
        }
        for verdict in [Verdict::Suspicion, Verdict::Ban] {
            metrics.decisions.with_label_values(&[verdict.label()]);
        }
        Ok(metrics)
    }

    /// Their descriptions.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// The exposition.
    ///
    /// # Errors
    /// It cannot be written: a mistake in the code.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub(super) fn message(&self, partition: u8, sightings: usize) {
        let partition = partition.to_string();
        self.messages.with_label_values(&[&partition]).inc();
        self.sightings.with_label_values(&[&partition]).inc_by(sightings as u64);
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.faults.with_label_values(&[fault.label()]).inc();
    }

    pub(super) fn decided(&self, verdict: Verdict) {
        self.decisions.with_label_values(&[verdict.label()]).inc();
    }

    pub(super) fn not_told(&self) {
        self.not_told.inc();
    }

    pub(super) fn snapshot(&self, outcome: Outcome) {
        self.snapshots.with_label_values(&[outcome.label()]).inc();
    }

    pub(super) fn no_snapshot(&self, why: Unusable) {
        self.snapshots.with_label_values(&[why.label()]).inc();
    }

    pub(super) fn instance(&self, held: usize, instances: usize, connected: bool) {
        self.held.set(level(held));
        self.instances.set(level(instances));
        self.connected.set(connected.into());
    }

    /// The state of a partition.
    pub(super) fn partition(&self, partition: u8, correlator: &Correlator, lag: Duration) {
        let number = partition.to_string();
        let set = |gauge: &IntGaugeVec, value: usize| gauge.with_label_values(&[&number]).set(level(value));
        self.lag.with_label_values(&[&number]).set(level(lag.as_millis()));
        set(&self.sources, correlator.sources());
        set(&self.in_force, correlator.in_force());
        let (members, aside) = correlator.count_members();
        set(&self.members, members);
        set(&self.aside, aside);
        let Bounds { duplicates, old, evicted, unknown_members, places_left_out, held_back, not_decided } =
            correlator.bounds();
        for (what, count) in [
            ("duplicate", duplicates),
            ("old", old),
            ("evicted", evicted),
            ("unknown_members", unknown_members),
            ("places", places_left_out),
            ("held_back", held_back),
            ("not_decided", not_decided),
        ] {
            self.left_out.with_label_values(&[number.as_str(), what]).set(level(count));
        }
    }

    /// A partition is another's.
    pub(super) fn left(&self, partition: u8) {
        let number = partition.to_string();
        for gauge in [&self.lag, &self.sources, &self.in_force, &self.members, &self.aside] {
            // It may have none.
            let _ = gauge.remove_label_values(&[&number]);
        }
    }
}
