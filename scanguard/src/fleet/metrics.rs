//! Metrics of a member. No address is ever a label.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};
use scanguard_common::numbered;

use super::queue::MOST;
use crate::metrics::{Register, level};

numbered! {
    /// What became of a sighting.
    Outcome {
        /// A server has stored it.
        Acknowledged = "acknowledged",
        /// There was no room in the queue: the oldest went.
        Dropped = "dropped",
        /// There were more than 200 in a second.
        Rate = "rate",
        /// This host was flooded.
        Flood = "flood",
        /// There was no room between two looks of the agent.
        Unnoted = "unnoted",
    }
}

numbered! {
    /// What became of a decision.
    Taken {
        /// A ban was made.
        Banned = "banned",
        /// A shield was made.
        Shielded = "shielded",
        /// What it wants was there.
        Stands = "stands",
        /// The policy of this host refused it.
        Refused = "refused",
        /// `fleet.act` has it count only.
        Ignored = "ignored",
        /// It was made by a lease that was over.
        Stale = "stale",
        /// It cannot be read.
        Malformed = "malformed",
        /// It had ended.
        Over = "over",
        /// There was no room until the agent took it.
        LeftOut = "left_out",
    }
}

/// The metrics.
pub struct FleetMetrics {
    sightings: IntCounterVec,
    messages: IntCounterVec,
    findings: IntCounterVec,
    bytes: IntCounter,
    waiting: IntGauge,
    connected: IntGauge,
    decisions: IntCounterVec,
    gaps: IntCounter,
    since: Gauge,
    spool_errors: IntCounter,
}

impl FleetMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            sightings: register.counters(
                "scanguard_fleet_sightings_total",
                "Sightings for the fleet: acknowledged by a server, or left out: dropped (the queue was full, the \
                 oldest went), rate (more than 200 in a second), flood (this host was flooded), unnoted (no room between \
                 two looks).",
                &["outcome"],
            )?,
            messages: register.counters(
                "scanguard_fleet_messages_total",
                "Messages to the fleet, by outcome: acknowledged, or failed, after which they are sent again.",
                &["outcome"],
            )?,
            findings: register.counters(
                "scanguard_fleet_findings_total",
                "Reports of findings to the fleet: acknowledged by a server, or dropped (1,000 waited, the oldest went).",
                &["outcome"],
            )?,
            bytes: register
                .counter("scanguard_fleet_bytes_total", "Bytes of acknowledged messages to the fleet.")?,
            waiting: register
                .gauge("scanguard_fleet_waiting_sightings", "Sightings that wait to be sent to the fleet.")?,
            connected: register.gauge(
                "scanguard_fleet_connected",
                "Whether this host is connected to a NATS server of the fleet; 0 also if it is no member.",
            )?,
            decisions: register.counters(
                "scanguard_fleet_decisions_total",
                "Decisions of the fleet, by what became of them here: banned, shielded, stands (it was there already), \
                 refused (by the policy), ignored (fleet.act), stale (by a lease that was over), malformed, over (it \
                 had ended) or left_out.",
                &["outcome"],
            )?,
            gaps: register.counter(
                "scanguard_fleet_gaps_total",
                "Times that decisions did not come in order, and were asked for.",
            )?,
            since: register.real_gauge(
                "scanguard_fleet_seconds_since_ack",
                "Seconds since a server acknowledged a message of this host, or since the start; 0 if nothing waits.",
            )?,
            spool_errors: register.counter(
                "scanguard_fleet_spool_errors_total",
                "Times that the file with the waiting sightings could not be written or read.",
            )?,
        };
        register
            .gauge(
                "scanguard_fleet_waiting_sightings_limit",
                "Maximum number of sightings that wait to be sent to the fleet.",
            )?
            .set(level(MOST));
        for outcome in Outcome::ALL {
            metrics.sightings.with_label_values(&[outcome.label()]);
        }
        for outcome in [Outcome::Acknowledged, Outcome::Dropped] {
            metrics.findings.with_label_values(&[outcome.label()]);
        }
        for outcome in ["acknowledged", "failed"] {
            metrics.messages.with_label_values(&[outcome]);
        }
        for outcome in Taken::ALL {
            metrics.decisions.with_label_values(&[outcome.label()]);
        }
        Ok(metrics)
    }

    pub(super) fn sightings(&self, outcome: Outcome, count: u64) {
        self.sightings.with_label_values(&[outcome.label()]).inc_by(count);
    }

    pub(super) fn acknowledged(&self, bytes: usize, sightings: usize) {
        self.messages.with_label_values(&["acknowledged"]).inc();
        self.bytes.inc_by(bytes as u64);
        self.sightings(Outcome::Acknowledged, sightings as u64);
    }

    pub(super) fn findings(&self, outcome: Outcome, count: u64) {
        self.findings.with_label_values(&[outcome.label()]).inc_by(count);
    }

    pub(super) fn failed(&self) {
        self.messages.with_label_values(&["failed"]).inc();
    }

    pub(super) fn state(&self, connected: bool, waiting: usize, since_ack: f64) {
        self.connected.set(connected.into());
        self.waiting.set(level(waiting));
        self.since.set(since_ack);
    }

    /// What became of a decision.
    pub fn decided(&self, taken: Taken) {
        self.decisions.with_label_values(&[taken.label()]).inc();
    }

    pub(super) fn gap(&self) {
        self.gaps.inc();
    }

    pub(super) fn spool_failed(&self) {
        self.spool_errors.inc();
    }
}
