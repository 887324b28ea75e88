//! Metrics of the histories that are kept.

use prometheus::{IntCounter, IntGauge};

use super::Observer;
use crate::metrics::{Register, level, raise};

/// The metrics.
pub struct HistoryMetrics {
    history_sources: IntGauge,
    history_evictions: IntCounter,
}

impl HistoryMetrics {
    pub(crate) fn new(register: &Register, max_sources: u32) -> prometheus::Result<Self> {
        register
            .gauge(
                "scanguard_history_sources_limit",
                "Maximum number of sources whose history the agent keeps.",
            )?
            .set(max_sources.into());
        Ok(Self {
            history_sources: register
                .gauge("scanguard_history_sources", "Sources whose history the agent keeps.")?,
            history_evictions: register.counter(
                "scanguard_history_evictions_total",
                "Histories that were removed because there were too many.",
            )?,
        })
    }

    /// How histories stand after a poll.
    pub fn state(&self, observer: &Observer) {
        self.history_sources.set(level(observer.len()));
        raise(&self.history_evictions, observer.evictions());
    }
}
