//! What the metrics are, for docs/metrics.md: taken from the metrics themselves, so that the page is never wrong.

use std::fmt::Write as _;

use prometheus::core::Desc;

/// One metric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Its full name.
    pub name: String,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// One sentence.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// The types of metrics that there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It grows, and begins anew with the agent.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by bucket, a sum and a count.
    Histogram,
}

impl Kind {
    /// The name in the exposition format.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Described {
    pub(super) fn new(kind: Kind, desc: &Desc) -> Self {
        Self {
            name: desc.fq_name.clone(),
            kind,
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
        }
    }

    /// The names under which Prometheus has it.
    pub fn series(&self) -> Vec<String> {
        let of = |suffix: &str| format!("{}{suffix}", self.name);
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![of("")],
            Kind::Histogram => vec![of("_bucket"), of("_sum"), of("_count")],
        }
    }
}

/// docs/metrics.md.
pub fn page(described: &[Described]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from the code: `cargo xtask docs --write`. Served at `/metrics` of `metrics.listen`, by default \
         port 9823 on all addresses.\n\n\
         No address is a label, unless `metrics.top_sources` asks for it. Counters begin anew with the agent, unless `sensor.persist` lets the next agent go \
         on with the kernel's. The process's own metrics (`process_*`) are those of every Prometheus client.\n\n\
         Alerts on these are in [deploy/prometheus](../deploy/prometheus), a dashboard in \
         [deploy/grafana](../deploy/grafana).\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for Described { name, kind, help, labels } in described {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let help = help.replace('|', "\\|");
        // Writing to a string does not fail.
        let _ = writeln!(page, "| `{name}` | {} | {labels} | {help} |", kind.label());
    }
    page
}
