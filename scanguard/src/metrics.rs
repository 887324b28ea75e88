//! How to make, register and describe a metric. Every module has its own metrics in its `metrics.rs`; `export`
//! composes them.

use std::cell::RefCell;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
    core::{Collector, Desc},
};

/// One metric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Its full name.
    pub name: String,
    /// Its type in Prometheus.
    pub kind: Kind,
    /// One sentence.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// The types of metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It grows, and starts at 0 with the agent.
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
    fn new(kind: Kind, desc: &Desc) -> Self {
        Self {
            name: desc.fq_name.clone(),
            kind,
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
        }
    }

    /// The names of its series in Prometheus.
    pub fn series(&self) -> Vec<String> {
        let of = |suffix: &str| format!("{}{suffix}", self.name);
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![of("")],
            Kind::Histogram => vec![of("_bucket"), of("_sum"), of("_count")],
        }
    }
}

/// Raises a counter to a total that is counted elsewhere.
pub(crate) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// A count, in the type of a gauge.
pub(crate) fn level(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Makes metrics, registers them and notes their descriptions.
#[derive(Default)]
pub(crate) struct Register {
    pub(crate) registry: Registry,
    pub(crate) described: RefCell<Vec<Described>>,
}

impl Register {
    fn keep<C: Collector + Clone + 'static>(&self, kind: Kind, metric: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(metric.clone()))?;
        let described = metric.desc().into_iter().map(|desc| Described::new(kind, desc));
        self.described.borrow_mut().extend(described);
        Ok(metric)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.keep(Kind::Counter, IntCounter::new(name, help)?)
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.keep(Kind::Counter, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.keep(Kind::Gauge, IntGauge::new(name, help)?)
    }

    pub(crate) fn real_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.keep(Kind::Gauge, Gauge::new(name, help)?)
    }

    pub(crate) fn real_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        self.keep(Kind::Gauge, GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.keep(Kind::Gauge, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(crate) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(Kind::Histogram, Histogram::with_opts(options)?)
    }
}
