//! docs/metrics.md is what the metrics say of themselves.

use scanguard::{
    export::{
        metrics::{Limits, Metrics},
        reference,
    },
    metrics::Kind,
};

/// The metrics of an agent.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(Limits { sources: 1, history: 1, findings: 1, visitors: 1 }, ["vertical_scan"].into_iter())
        .unwrap()
}

#[test]
fn the_page_of_metrics_has_every_metric() {
    crate::golden("docs/metrics.md", &reference::page(&metrics().described()));
}

#[test]
fn every_metric_follows_the_conventions_of_prometheus() {
    let wrong: Vec<_> = metrics()
        .described()
        .into_iter()
        .filter(|metric| {
            let is_counter = metric.kind == Kind::Counter;
            !metric.name.starts_with("scanguard_")
                || is_counter != metric.name.ends_with("_total")
                || !metric.help.ends_with('.')
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
