//! Vertical scan: one source tries to connect to many services of few hosts (nmap -sS, -sT, masscan, naabu ...).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, attempts_in_words, entry::Entry, least};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, ATTEMPTS, Missed},
    },
    observe::{history::Window, sampled::Kind},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "vertical_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(VerticalScan(settings)),
};

/// `[rules.vertical_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services.
    services: u32,
    /// The same threshold if this host cannot see whether a service was met.
    unknown_services: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 20,
            unknown_services: 60,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
            unknown_services: section.number("unknown_services", default.unknown_services, 2..=1_500),
        };
        least(&section, ("services", settings.services), ("unknown_services", settings.unknown_services));
        section.finish();
        settings
    }
}

/// Least services per host: a client of two or three services on each of many hosts is not looking for services.
pub(super) const SERVICES_PER_HOST: u64 = 4;

/// If the reach is unknown, so many assigned services of each address are enough, with [`DENSE`] in all: clients of hosts
/// behind this one use a few of each.
const DENSE_PER_HOST: u64 = 20;
/// As above: of the threshold for proven services, so many times.
const DENSE: f64 = 1.25;

/// The rule.
struct VerticalScan(Settings);

impl VerticalScan {
    /// Whether the source asked single addresses for many services, whose reach is unknown. Ports that systems hand out
    /// are left out: a client of passive FTP or RPC uses many of them.
    fn is_dense(&self, window: &Window, hosts: Missed) -> bool {
        let services = missed::services(&window.activity, ATTEMPTS, &[Kind::TcpFixed]).possible;
        services as f64 >= f64::from(self.0.services) * DENSE
            && services >= hosts.possible.max(1) * DENSE_PER_HOST
    }
}

impl Rule for VerticalScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        self.0.services
    }

    fn covers(&self) -> &'static [&'static str] {
        &["half_open_scan", "sequential_test", "slow_scan", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let services = missed::services(&window.activity, ATTEMPTS, Kind::TCP);
        let hosts = missed::hosts(&window.activity, ATTEMPTS, Kind::TCP);
        let proven = services.proven >= u64::from(self.0.services);
        let many = proven
            || services.possible >= u64::from(self.0.unknown_services)
            || self.is_dense(&window, hosts);
        if !many || services.possible < hosts.possible * SERVICES_PER_HOST {
            return None;
        }
        let reason = attempts_in_words(&window, self.0.common.window, proven);
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{
        oracle::Reach,
        outcome::{Answer, Service},
    };

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, tcp};

    fn rule() -> Box<dyn Rule> {
        Box::new(VerticalScan(Settings::default()))
    }

    #[test]
    fn many_closed_ports_of_one_host_are_a_scan() {
        let found = found(rule(), |script| {
            for port in 1..=30 {
                script.at(u64::from(port)).syn(1, 1, port);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn many_more_are_needed_where_it_is_unknown_what_they_met() {
        for (hosts, ports, first, expected) in [
            (1, 20, 1, NOBODY.as_slice()),
            (1, 29, 1, &[1]),
            (1, 40, 20_000, &NOBODY),
            (8, 40, 1, &NOBODY),
            (8, 100, 1, &[1]),
            (1, 100, 20_000, &[1]),
        ] {
            let found = found(rule(), |script| {
                for port in 0..ports {
                    let host = u8::try_from(port % hosts).unwrap();
                    script.probe_met(1, ProbeClass::Syn, host, tcp(first + port), Reach::Unknown);
                }
            });
            assert_eq!(found, expected, "{ports} ports of {hosts} addresses from {first} on");
        }
    }

    #[test]
    fn what_is_unknown_is_as_good_as_closed_where_it_was_refused() {
        let found = found(rule(), |script| {
            for port in 1..=30 {
                script.probe_met(1, ProbeClass::Syn, 1, tcp(port), Reach::Unknown).answer(1, Answer::Reset);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn a_flood_of_pings_or_datagrams_does_not_hide_a_scan() {
        let found = found(rule(), |script| {
            for port in 1..=100 {
                script.syn(1, 1, port);
                script.probe_met(
                    1,
                    ProbeClass::IcmpEcho,
                    1,
                    Service { protocol: 1, port: 0 },
                    Reach::Unknown,
                );
                script.probe(1, ProbeClass::Udp, 1, Service { protocol: 17, port: 9 });
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn clients_are_not_found() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 5] = [
            ("a browser with many connections to two ports", |script| {
                for second in 0..600 {
                    script.at(second).open(1, 1, 443).open(1, 1, 80);
                }
            }),
            ("two closed services on each of many hosts", |script| {
                for host in 1..=100 {
                    script.syn(1, host, 22).syn(1, host, 443);
                }
            }),
            ("seventeen ports", |script| {
                for port in 1..=17 {
                    script.syn(1, 1, port);
                }
            }),
            ("a new port every ten seconds, which is for a slower rule", |script| {
                for port in 0..100 {
                    script.at(u64::from(port) * 10).syn(1, 1, port);
                }
            }),
            ("a client of a hundred published services, which answer", |script| {
                for port in 1..=100 {
                    script
                        .probe_met(1, ProbeClass::Syn, 1, tcp(port), Reach::Unknown)
                        .answer(1, Answer::SynAck);
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
