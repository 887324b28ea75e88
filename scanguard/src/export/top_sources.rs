//! Metrics with the address of the sources that probe fastest: only if configured, and only a few.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use prometheus::GaugeVec;

use crate::metrics::Register;

/// The largest configurable number. Each source that is ever among them makes a series in Prometheus.
pub const MAX_TOP_SOURCES: u32 = 100;

/// The rates of these sources.
pub struct TopSources {
    rates: GaugeVec,
    /// The sources that have a series now.
    shown: Mutex<BTreeMap<String, f64>>,
}

impl TopSources {
    pub(super) fn new(register: &Register) -> prometheus::Result<Self> {
        let rates = register.real_gauges(
            "scanguard_top_source_probes_per_second",
            "Probes a second, over the last 10 s, of the sources that probe fastest; empty unless \
             metrics.top_sources is set.",
            &["source"],
        )?;
        Ok(Self { rates, shown: Mutex::default() })
    }

    /// Exports exactly these from now on, with their probes per second.
    pub fn show(&self, sources: BTreeMap<String, f64>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.keys().filter(|source| !sources.contains_key(*source)) {
            // This always finds it, as nobody else removes any.
            let _ = self.rates.remove_label_values(&[gone]);
        }
        for (source, rate) in &sources {
            self.rates.with_label_values(&[source]).set(*rate);
        }
        *shown = sources;
    }
}

#[cfg(test)]
mod tests {
    use prometheus::proto::MetricFamily;

    use super::*;

    #[test]
    fn only_those_that_were_shown_last_have_a_series() {
        let register = Register::default();
        let top = TopSources::new(&register).expect("one metric");
        let rates = |sources: &[(&str, f64)]| {
            top.show(sources.iter().map(|(source, rate)| ((*source).to_owned(), *rate)).collect());
            let families = register.registry.gather();
            let series = families.iter().flat_map(MetricFamily::get_metric);
            let series = series
                .map(|series| (series.get_label()[0].value().to_owned(), series.get_gauge().get_value()));
            series.collect::<Vec<_>>()
        };
        let named = |source: &str, rate| (source.to_owned(), rate);
        assert_eq!(
            rates(&[("192.0.2.1", 3.0), ("192.0.2.2", 1.0)]),
            [named("192.0.2.1", 3.0), named("192.0.2.2", 1.0)]
        );
        assert_eq!(
            rates(&[("192.0.2.2", 0.5), ("2001:db8::/64", 7.0)]),
            [named("192.0.2.2", 0.5), named("2001:db8::/64", 7.0)]
        );
        assert_eq!(rates(&[]), []);
    }
}
