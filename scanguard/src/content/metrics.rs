//! Metrics of the sources of which it is remembered what they said.

use prometheus::{IntCounter, IntGauge};

use super::{streams::Streams, tracker::ContentTracker};
use crate::metrics::{Register, level, raise};

/// The metrics.
pub struct ContentMetrics {
    visitors: IntGauge,
    visitor_evictions: IntCounter,
    streams_forgotten: IntCounter,
    bodies: IntCounter,
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
            streams_forgotten: register.counter(
                "scanguard_content_connections_forgotten_total",
                "Connections that were forgotten because there were too many: what their clients say next is not proven.",
            )?,
            bodies: register.counter(
                "scanguard_content_bodies_total",
                "Samples that were left aside because they lie in the body of a request.",
            )?,
        })
    }

    /// How many there are after a poll.
    pub fn state(&self, visitors: &ContentTracker, streams: &Streams) {
        raise(&self.streams_forgotten, streams.forgotten());
        raise(&self.bodies, streams.bodies());
        self.visitors.set(level(visitors.len()));
        raise(&self.visitor_evictions, visitors.evictions());
    }
}
