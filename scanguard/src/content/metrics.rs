//! Metrics of the sources of which it is remembered what they said.

use prometheus::{IntCounter, IntGauge};

use super::tracker::ContentTracker;
use crate::metrics::{Register, level, raise};

/// The metrics.
pub struct ContentMetrics {
    visitors: IntGauge,
    visitor_evictions: IntCounter,
}

impl ContentMetrics {
    pub(crate) fn new(register: &Register, max_visitors: u32) -> prometheus::Result<Self> {
        register
            .gauge(
                "scanguard_content_visitors_limit",
                "Maximum number of sources whose content the agent remembers.",
            )?
            .set(max_visitors.into());
        Ok(Self {
            visitors: register
                .gauge("scanguard_content_visitors", "Sources whose content the agent remembers.")?,
            visitor_evictions: register.counter(
                "scanguard_content_visitor_evictions_total",
                "Sources whose content was forgotten because there were too many.",
            )?,
        })
    }

    /// How many there are after a poll.
    pub fn state(&self, visitors: &ContentTracker) {
        self.visitors.set(level(visitors.len()));
        raise(&self.visitor_evictions, visitors.evictions());
    }
}
