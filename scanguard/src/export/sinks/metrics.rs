//! Metrics of the sinks.

use std::sync::Arc;

use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGaugeVec};
use scanguard_common::numbered;

use crate::metrics::{Register, level};

numbered! {
    /// Why an event was never delivered.
    Lost {
        /// The queue was full.
        Full = "full",
        /// The receiver refused it.
        Refused = "refused",
        /// The agent ended, or the sink was removed from the configuration.
        Ended = "ended",
    }
}

/// The metrics, by sink.
pub struct SinkMetrics {
    sent: IntCounterVec,
    failed: IntCounterVec,
    dropped: IntCounterVec,
    queue: IntGaugeVec,
    limit: IntGaugeVec,
    last_success: IntGaugeVec,
}

impl SinkMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        Ok(Self {
            sent: register.counters("scanguard_sink_sent_total", "Events that a sink delivered.", &["sink"])?,
            failed: register.counters(
                "scanguard_sink_failed_total",
                "Deliveries of a sink that failed; most are tried again.",
                &["sink"],
            )?,
            dropped: register.counters(
                "scanguard_sink_dropped_total",
                "Events that a sink never delivered: its queue was full, the receiver refused them, or the agent ended.",
                &["sink", "reason"],
            )?,
            queue: register.gauges(
                "scanguard_sink_queue_length",
                "Events that wait in a sink; of Alertmanager: alerts that fire, or whose end was not delivered yet.",
                &["sink"],
            )?,
            limit: register.gauges(
                "scanguard_sink_queue_limit",
                "Maximum number of events that wait in a sink.",
                &["sink"],
            )?,
            last_success: register.gauges(
                "scanguard_sink_last_success_timestamp_seconds",
                "Time of the last delivery of a sink; 0: never.",
                &["sink"],
            )?,
        })
    }

    /// The series of a sink, exported from now on.
    pub(super) fn of(self: &Arc<Self>, sink: &str, limit: u32) -> Series {
        let series = Series { sink: sink.into(), metrics: Arc::clone(self) };
        let label = [sink];
        self.sent.with_label_values(&label);
        self.failed.with_label_values(&label);
        for lost in Lost::ALL {
            self.dropped.with_label_values(&[sink, lost.label()]);
        }
        self.queue.with_label_values(&label).set(0);
        self.limit.with_label_values(&label).set(limit.into());
        self.last_success.with_label_values(&label);
        series
    }
}

/// The series of one sink.
#[derive(Clone)]
pub(super) struct Series {
    sink: Arc<str>,
    metrics: Arc<SinkMetrics>,
}

impl Series {
    /// One event was delivered.
    pub(super) fn sent(&self) {
        self.sent_many(1);
    }

    /// Counts several events that were delivered at once.
    pub(super) fn sent_many(&self, count: usize) {
        self.metrics.sent.with_label_values(&[&*self.sink]).inc_by(count as u64);
        self.metrics.last_success.with_label_values(&[&*self.sink]).set(Timestamp::now().as_second());
    }

    /// Counts a failed attempt.
    pub(super) fn failed(&self) {
        self.metrics.failed.with_label_values(&[&*self.sink]).inc();
    }

    /// Counts lost events.
    pub(super) fn dropped(&self, why: Lost, count: usize) {
        self.metrics.dropped.with_label_values(&[&*self.sink, why.label()]).inc_by(count as u64);
    }

    /// Sets the number of waiting events.
    pub(super) fn queued(&self, count: usize) {
        self.metrics.queue.with_label_values(&[&*self.sink]).set(level(count));
    }

    /// The sink has ended: its gauges go to zero, its counters stay.
    pub(super) fn forget(&self) {
        for gauge in [&self.metrics.queue, &self.metrics.limit, &self.metrics.last_success] {
            // It may not have been exported yet.
            let _ = gauge.remove_label_values(&[&*self.sink]);
        }
    }
}
