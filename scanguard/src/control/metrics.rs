//! Metrics of requests at the control socket, and of orders from the page.

use prometheus::IntCounterVec;

use super::Outcome;
use crate::metrics::Register;

/// The metrics.
pub struct ControlMetrics {
    requests: IntCounterVec,
}

impl ControlMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let requests = register.counters(
            "scanguard_control_requests_total",
            "Requests at the control socket, and orders from the page, by outcome.",
            &["outcome"],
        )?;
        for outcome in Outcome::ALL {
            requests.with_label_values(&[outcome.label()]);
        }
        Ok(Self { requests })
    }

    /// Counts a request by its result.
    pub fn requested(&self, outcome: Outcome) {
        self.requests.with_label_values(&[outcome.label()]).inc();
    }
}
