//! Metrics of the exchange with CrowdSec. No address is ever a label.

use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge};
use scanguard_common::numbered;

use super::{
    QUEUE,
    client::ClientError,
    decisions::{Fate, Orders},
};
use crate::metrics::{Register, level};

numbered! {
    /// A kind of request to the Local API.
    Request {
        /// Log this machine in.
        Login = "login",
        /// Push alerts.
        Alerts = "alerts",
        /// Pull decisions.
        Decisions = "decisions",
    }
}

numbered! {
    /// The result for an alert.
    AlertOutcome {
        /// The Local API took it.
        Pushed = "pushed",
        /// There was no room for it in the queue.
        LeftOut = "left_out",
        /// The Local API refused it at each try.
        Refused = "refused",
    }
}

/// The metrics.
pub struct CrowdsecMetrics {
    requests: IntCounterVec,
    alerts: IntCounterVec,
    queue: IntGauge,
    decisions: IntGauge,
    fates: IntCounterVec,
    age: Gauge,
}

impl CrowdsecMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: register.counters(
                "scanguard_crowdsec_requests_total",
                "Requests to CrowdSec's Local API, by kind of request and outcome.",
                &["request", "outcome"],
            )?,
            alerts: register.counters(
                "scanguard_crowdsec_alerts_total",
                "Findings for CrowdSec: pushed, left_out (the queue was full) or refused by it.",
                &["outcome"],
            )?,
            queue: register
                .gauge("scanguard_crowdsec_queued_alerts", "Findings that wait to be pushed to CrowdSec.")?,
            decisions: register
                .gauge("scanguard_crowdsec_decisions", "Decisions of CrowdSec that are kept.")?,
            fates: register.counters(
                "scanguard_crowdsec_decisions_total",
                "Decisions of CrowdSec when they were new: kept, own (they follow from this machine's findings), of another \
                 scope or type, malformed, or left_out (crowdsec.max_decisions).",
                &["outcome"],
            )?,
            age: register.real_gauge(
                "scanguard_crowdsec_seconds_since_pull",
                "Seconds since decisions were pulled last, or, if they never were, since the first attempt; 0 if \
                 none are pulled.",
            )?,
        };
        register
            .gauge(
                "scanguard_crowdsec_queued_alerts_limit",
                "Maximum number of findings that wait to be pushed to CrowdSec.",
            )?
            .set(level(QUEUE));
        for request in Request::ALL {
            for outcome in ClientError::LABELS.into_iter().chain(["ok"]) {
                metrics.requests.with_label_values(&[request.label(), outcome]);
            }
        }
        for outcome in AlertOutcome::ALL {
            metrics.alerts.with_label_values(&[outcome.label()]);
        }
        for fate in Fate::ALL {
            metrics.fates.with_label_values(&[fate.label()]);
        }
        Ok(metrics)
    }

    /// A request ended.
    pub fn asked<T>(&self, request: Request, answer: &Result<T, ClientError>) {
        let outcome = answer.as_ref().err().map_or("ok", ClientError::label);
        self.requests.with_label_values(&[request.label(), outcome]).inc();
    }

    /// This many alerts had this result.
    pub fn alerts(&self, outcome: AlertOutcome, count: usize) {
        self.alerts.with_label_values(&[outcome.label()]).inc_by(count as u64);
    }

    /// Alerts that wait.
    pub fn queue(&self, count: usize) {
        self.queue.set(level(count));
    }

    /// Counts the results for decisions.
    pub fn decided(&self, orders: &Orders) {
        self.decisions.set(level(orders.kept));
        for (fate, count) in &orders.fates {
            self.fates.with_label_values(&[fate.label()]).inc_by(*count);
        }
    }

    /// How long ago the last decisions were pulled.
    pub fn age(&self, age: Duration) {
        self.age.set(age.as_secs_f64());
    }
}
