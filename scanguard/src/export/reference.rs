//! Generates docs/metrics.md from the metrics themselves, so that the page is always correct.

use std::fmt::Write as _;

use crate::metrics::Described;

/// docs/metrics.md.
pub fn page(described: &[Described]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from the code: `cargo xtask docs --write`. Served at `/metrics` of `metrics.listen`, by default\n\
         127.0.0.1:9823.\n\n\
         No address is a label, unless `metrics.top_sources` asks for it. Counters begin anew with the agent, unless\n\
         `sensor.persist` keeps those of the kernel. The process's own metrics (`process_*`) are those of every\n\
         Prometheus client.\n\n\
         Alerts on these are in [deploy/prometheus](../deploy/prometheus), a dashboard in\n\
         [deploy/grafana](../deploy/grafana).\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for Described { name, kind, help, labels } in described {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let help = help.replace('|', "\\|");
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{name}` | {} | {labels} | {help} |", kind.label());
    }
    page
}
