//! Vertical scan: one source tries many services of few hosts (nmap -sS, -sT, -sF, -sU, -sY, -sO ...).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, SERVICE_PROBES, probes_in_words};
use crate::{
    config::{Interval, Section},
    detect::{Evidence, Rule, Severity, Source, Technique},
};

/// `[rules.vertical_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// Distinct services (ports by protocol, and IP protocols) from which on it is a scan.
    pub services: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 20,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Beyond 1,500 the bitmap of 512 bits says little.
            services: section.number("services", default.services, 2..=1_500),
        };
        section.finish();
        settings
    }
}

/// The rule.
pub(super) struct VerticalScan(pub(super) Settings);

/// Services for each host below which it is not vertical: a client of two or three services on each of
/// many hosts is not looking for services.
const SERVICES_PER_HOST: u64 = 4;

impl Rule for VerticalScan {
    fn name(&self) -> &'static str {
        "vertical_scan"
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        SERVICE_PROBES
    }

    fn soonest(&self) -> u32 {
        self.0.services
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let services = window.activity.services();
        let hosts = window.activity.hosts();
        let many = services.value >= u64::from(self.0.services);
        if !many || services.value < hosts.value * SERVICES_PER_HOST {
            return None;
        }
        let reason = format!(
            "{} to {services} services of {hosts} {} within {}",
            probes_in_words(&window.activity.counts.only(SERVICE_PROBES)),
            super::plural(hosts.value, "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::outcome::Service;

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found};

    fn rule() -> Box<dyn Rule> {
        Box::new(VerticalScan(Settings::default()))
    }

    #[test]
    fn many_ports_of_one_host_are_a_scan_however_they_are_probed() {
        for class in [ProbeClass::Syn, ProbeClass::Fin, ProbeClass::Null, ProbeClass::UdpEmpty] {
            let found = found(rule(), |script| {
                for port in 1..=30 {
                    script.at(u64::from(port)).probe(1, class, 1, Service { protocol: 6, port });
                }
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn many_ip_protocols_of_one_host_are_a_scan() {
        let found = found(rule(), |script| {
            for protocol in 140..180 {
                script.probe(1, ProbeClass::IpProtocol, 1, Service { protocol, port: 0 });
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn clients_are_not_found() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 4] = [
            ("a browser with many connections to two ports", |script| {
                for second in 0..600 {
                    script.at(second).syn(1, 1, 443).syn(1, 1, 80);
                }
            }),
            ("two services on each of many hosts", |script| {
                for host in 1..=100 {
                    script.syn(1, host, 22).syn(1, host, 443);
                }
            }),
            ("nineteen ports", |script| {
                for port in 1..=19 {
                    script.syn(1, 1, port);
                }
            }),
            ("a new port every ten seconds, which is for a slower rule", |script| {
                for port in 0..100 {
                    script.at(u64::from(port) * 10).syn(1, 1, port);
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }

    #[test]
    fn each_source_is_judged_alone() {
        let found = found(rule(), |script| {
            for port in 1..=30 {
                script.syn(u8::try_from(port).unwrap(), 1, port);
                script.syn(200, 1, port);
            }
        });
        assert_eq!(found, [200]);
    }
}
