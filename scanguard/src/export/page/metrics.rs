//! Metrics of the page.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use scanguard_common::numbered;

use crate::metrics::Register;

numbered! {
    /// Why an order from the page was rejected.
    TurnedAway {
        /// No token is configured.
        NoToken = "no_token",
        /// The token was wrong, or there was none.
        Wrong = "wrong_token",
        /// There were too many wrong tokens.
        TooMany = "too_many",
        /// It was not JSON, as with a form of a foreign page.
        ContentType = "content_type",
    }
}

/// The metrics.
pub struct PageMetrics {
    /// Browsers that are connected.
    pub(super) clients: IntGauge,
    limit: IntGauge,
    displaced: IntCounter,
    turned_away: IntCounterVec,
}

impl PageMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            clients: register.gauge("scanguard_page_clients", "Browsers that show the page.")?,
            limit: register.gauge(
                "scanguard_page_clients_limit",
                "Maximum number of browsers that can show the page at once; 0: the page is off.",
            )?,
            displaced: register.counter(
                "scanguard_page_clients_displaced_total",
                "Browsers that were disconnected to make room for a newer one.",
            )?,
            turned_away: register.counters(
                "scanguard_page_orders_refused_total",
                "Orders from the page that were refused before they were read, by reason.",
                &["reason"],
            )?,
        };
        for reason in TurnedAway::ALL {
            metrics.turned_away.with_label_values(&[reason.label()]);
        }
        Ok(metrics)
    }

    pub(super) fn limit(&self, clients: u32) {
        self.limit.set(clients.into());
    }

    pub(super) fn displaced(&self) {
        self.displaced.inc();
    }

    #[cfg(test)]
    pub(super) fn displaced_so_far(&self) -> u64 {
        self.displaced.get()
    }

    pub(super) fn turned_away(&self, why: TurnedAway) {
        self.turned_away.with_label_values(&[why.label()]).inc();
    }
}
