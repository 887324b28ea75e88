//! Odd flags: TCP segments that no stack sends (nmap -sN, -sF, -sX, --scanflags, -O; hping3).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, probes_in_words};
use crate::{
    config::{Interval, Section},
    detect::{Evidence, Rule, Severity, Source, Technique},
};

/// `[rules.odd_flags]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// Such segments from which on it is a scan.
    pub probes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            probes: 3,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            probes: section.number("probes", default.probes, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// The rule.
pub(super) struct OddFlags(pub(super) Settings);

/// Combinations that RFC 9293 gives no meaning.
const ODD: &[ProbeClass] = &[
    ProbeClass::Null,
    ProbeClass::Fin,
    ProbeClass::Xmas,
    ProbeClass::SynFin,
    ProbeClass::SynRst,
    ProbeClass::OddFlags,
];

impl Rule for OddFlags {
    fn name(&self) -> &'static str {
        "odd_flags"
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ODD
    }

    fn soonest(&self) -> u32 {
        self.0.probes
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        if window.activity.counts.of_any(ODD) < u64::from(self.0.probes) {
            return None;
        }
        let reason = format!(
            "{} within {}: no TCP stack sends such segments",
            probes_in_words(&window.activity.counts.only(ODD)),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::outcome::Service;

    use super::*;
    use crate::detect::rules::testing::{NOBODY, found};

    const HTTP: Service = Service { protocol: 6, port: 80 };

    fn rule() -> Box<dyn Rule> {
        Box::new(OddFlags(Settings::default()))
    }

    #[test]
    fn three_odd_segments_of_any_kind_are_found() {
        for class in ODD {
            let found = found(rule(), |script| {
                script.probe(1, *class, 1, HTTP).probe(1, *class, 1, HTTP).probe(1, *class, 1, HTTP);
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn a_single_broken_segment_now_and_then_is_not() {
        let found = found(rule(), |script| {
            for minute in 0..60 {
                script.at(minute * 60).probe(1, ProbeClass::Fin, 1, HTTP);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn ordinary_connections_are_not() {
        let found = found(rule(), |script| {
            for port in 1..=1000 {
                script.syn(1, 1, port);
            }
        });
        assert_eq!(found, NOBODY);
    }
}
