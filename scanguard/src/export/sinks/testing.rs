//! Events and series for tests of sinks.

use std::sync::Arc;

use prometheus::Registry;

use super::metrics::{Series, SinkMetrics};
use crate::{
    detect::{findings::Event, rules::testing::Script},
    metrics::Register,
};

/// The event that a finding of 192.0.2.`source` was opened.
pub(in crate::export) fn event(source: u8) -> Event {
    let rules = crate::detect::rules::Settings::default().rules().rules;
    let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
    let mut script = Script::new(rule, crate::detect::settings::Settings::default());
    for port in 1..=40 {
        script.syn(source, 1, port);
    }
    let mut event = script.events().remove(0);
    event.finding.id = format!("test-{source}");
    event
}

/// Metrics in their own registry.
pub(in crate::export) fn metrics() -> (Registry, Arc<SinkMetrics>) {
    let register = Register::default();
    let metrics = SinkMetrics::new(&register).unwrap();
    (register.registry, Arc::new(metrics))
}

/// The series of a sink called `test`.
pub(super) fn series() -> Series {
    metrics().1.of("test", 1)
}
