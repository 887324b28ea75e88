//! Horizontal sweep: one source tries few services of many addresses (masscan, zmap, worms).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, SERVICE_PROBES, probes_in_words};
use crate::{
    config::{Interval, Section},
    detect::{Evidence, Rule, Severity, Source, Technique},
};

/// `[rules.horizontal_sweep]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// Distinct addresses from which on it is a sweep.
    pub hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            hosts: 16,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Beyond 700 the bitmap of 256 bits says little.
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// The rule.
pub(super) struct HorizontalSweep(pub(super) Settings);

impl Rule for HorizontalSweep {
    fn name(&self) -> &'static str {
        "horizontal_sweep"
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ScanningIpBlocks]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        SERVICE_PROBES
    }

    fn soonest(&self) -> u32 {
        self.0.hosts
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let hosts = window.activity.hosts();
        let needed = u64::from(self.0.hosts);
        // The addresses are those of all probes; pings alone are the business of another rule.
        if hosts.value < needed || window.activity.counts.of_any(SERVICE_PROBES) < needed {
            return None;
        }
        let reason = format!(
            "{} to {} {} on {hosts} addresses within {}",
            probes_in_words(&window.activity.counts.only(SERVICE_PROBES)),
            window.activity.services(),
            super::plural(window.activity.services().value, "service"),
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

    fn rule() -> Box<dyn Rule> {
        Box::new(HorizontalSweep(Settings::default()))
    }

    #[test]
    fn one_port_on_many_addresses_is_a_sweep() {
        let found = found(rule(), |script| {
            for host in 1..=30 {
                script.syn(1, host, 22);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn many_ports_of_one_address_are_not() {
        let found = found(rule(), |script| {
            for port in 1..=1000 {
                script.syn(1, 1, port);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn a_backup_server_that_connects_to_twelve_hosts_is_not_found() {
        let found = found(rule(), |script| {
            for second in 0..600 {
                script.at(second).syn(1, u8::try_from(second % 12).unwrap(), 22);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn pings_alone_are_not_found_here() {
        let found = found(rule(), |script| {
            for host in 1..=100 {
                script.probe(1, ProbeClass::IcmpEcho, host, Service { protocol: 1, port: 0 });
            }
            script.syn(1, 1, 80);
        });
        assert_eq!(found, NOBODY);
    }
}
