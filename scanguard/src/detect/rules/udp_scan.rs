//! UDP scan: one source tries many UDP services, or one of many addresses (nmap -sU, masscan -pU, zmap).
//!
//! Most UDP that meets no socket is innocent: late answers of resolvers, traceroute (ports from 33434 on), mtr, media
//! streams that outlive their call, peer-to-peer. All of these go to ephemeral ports, while scanners look for services,
//! which have assigned ports. So ports below 10,000 count for much and others for little.
//! Few are enough if they have names: who misses seven kinds of services that scanners ask for, and hardly any other port,
//! looks for services. Such findings say how little it was, by a low confidence.
//! If the reach is unknown, a resolver asks one service of hundreds of addresses, and a peer-to-peer client asks a
//! different service of each address. Then only many assigned ports of few addresses are evidence.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, about, entry::Entry, least, probes_in_words};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, DATAGRAMS},
        udp_services::{Named, named},
    },
    observe::{history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "udp_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(UdpScan(settings)),
};

/// `[rules.udp_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services on ports below 10,000.
    services: u32,
    /// Threshold: distinct addresses where any service is closed, or that are dark.
    hosts: u32,
    /// Threshold: distinct closed services on any ports.
    dynamic_services: u32,
    /// Threshold: distinct services on ports below 10,000, if this host cannot see whether they were met.
    unknown_services: u32,
    /// Threshold: kinds of closed services that scanners look for, if there are hardly any others.
    named_services: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 20,
            hosts: 16,
            dynamic_services: 500,
            unknown_services: 60,
            named_services: 7,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
            hosts: section.number("hosts", default.hosts, 2..=700),
            dynamic_services: section.number("dynamic_services", default.dynamic_services, 2..=1_500),
            unknown_services: section.number("unknown_services", default.unknown_services, 2..=1_500),
            named_services: section.number("named_services", default.named_services, 3..=20),
        };
        least(&section, ("services", settings.services), ("dynamic_services", settings.dynamic_services));
        least(&section, ("services", settings.services), ("unknown_services", settings.unknown_services));
        section.finish();
        settings
    }
}

/// In a capture, so many services or addresses that say nothing weigh as much as one that is closed: many services do not
/// answer what they do not understand.
const SILENT: u64 = 2;

/// Least services per address if the reach is unknown.
const SERVICES_PER_HOST: u64 = 4;

/// Of the closed services, at least one of so many has a name, or else names tell nothing.
const NAMED_ONE_OF: u64 = 2;
/// If so many different ports are closed, names in the bitmap are there by chance.
const MOST_BESIDE_NAMES: u64 = 64;

/// The rule.
struct UdpScan(Settings);

impl UdpScan {
    /// Whether the source missed services that scanners look for, `closed` with all others.
    fn has_names(&self, source: &Source<'_>, window: &Window, closed: u64) -> bool {
        let least = u64::from(self.0.named_services);
        let Some(salt) = source.sketch_salt.filter(|_| (least..=MOST_BESIDE_NAMES).contains(&closed)) else {
            return false;
        };
        let Named { ports, families } = named(&window.activity.distinct.services, salt);
        families >= least && ports * NAMED_ONE_OF >= closed
    }
}

impl Rule for UdpScan {
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
        DATAGRAMS
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts).min(self.0.named_services)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["slow_scan", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let fixed = missed::services(&window.activity, DATAGRAMS, &[Kind::UdpFixed]);
        let any = missed::services(&window.activity, DATAGRAMS, Kind::UDP);
        // Late answers and traceroutes go to one address, whatever the port.
        let hosts = missed::hosts(&window.activity, DATAGRAMS, Kind::UDP);
        let silence = source.silence(&window.activity);
        let many = |of: fn(u64, u64) -> u64, by: u64| {
            of(fixed.proven, by) >= u64::from(self.0.services)
                || of(any.proven, by) >= u64::from(self.0.dynamic_services)
                || of(hosts.proven, by) >= u64::from(self.0.hosts)
        };
        let proven = many(u64::saturating_sub, silence);
        let likely = many(u64::div_euclid, SILENT)
            || self.has_names(source, &window, any.proven.saturating_sub(silence))
            || fixed.possible >= u64::from(self.0.unknown_services)
                && fixed.possible >= hosts.possible * SERVICES_PER_HOST;
        if !proven && !likely {
            return None;
        }
        let hosts = hosts.possible;
        let reason = format!(
            "{} to {} services of {} {} within {}: a UDP scan (nmap -sU)",
            probes_in_words(&window.activity.counts.only(DATAGRAMS)),
            about(any.possible),
            about(hosts),
            super::plural(hosts, "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::oracle::Reach;

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, udp};

    type Play = fn(&mut Script);

    fn rule() -> Box<dyn Rule> {
        Box::new(UdpScan(Settings::default()))
    }

    #[test]
    fn scans_are_found() {
        let scans: [(&str, Play); 8] = [
            ("the ten services that nmap asks for first", |script| {
                for port in [631, 161, 137, 123, 138, 1434, 445, 135, 67, 53] {
                    script.probe(1, ProbeClass::Udp, 1, udp(port));
                }
            }),
            ("seven services by a loop, with a second between them", |script| {
                for (second, port) in [53, 69, 111, 123, 161, 500, 1900].into_iter().enumerate() {
                    script.at(second as u64).probe(1, ProbeClass::Udp, 1, udp(port));
                }
            }),
            ("closed services", |script| {
                for port in 50..90 {
                    script.at(u64::from(port)).probe(1, ProbeClass::UdpEmpty, 1, udp(port));
                }
            }),
            ("all ports in random order", |script| {
                for step in 0..1000u16 {
                    script.probe(1, ProbeClass::UdpEmpty, 1, udp(step.wrapping_mul(40_503)));
                }
            }),
            ("only ports above 10,000", |script| {
                for port in 40_000..42_000 {
                    script.probe(1, ProbeClass::UdpEmpty, 1, udp(port));
                }
            }),
            ("one service of many dark addresses", |script| {
                for host in 1..40 {
                    script.probe_met(1, ProbeClass::Udp, host, udp(161), Reach::Dark);
                }
            }),
            ("a port that nobody has, of many closed addresses", |script| {
                for host in 1..40 {
                    script.probe(1, ProbeClass::Udp, host, udp(40_125));
                }
            }),
            ("services behind this host", |script| {
                for port in 1..200 {
                    script.probe_met(1, ProbeClass::UdpEmpty, 1, udp(port), Reach::Unknown);
                }
            }),
        ];
        for (name, play) in scans {
            assert_eq!(found(rule(), play), [1], "{name}");
        }
    }

    #[test]
    fn clients_answers_and_paths_that_are_traced_are_not() {
        let quiet: [(&str, Play); 11] = [
            ("a client of a domain whose server is down, which also asks for its printer", |script| {
                for port in [53, 88, 389, 464, 123, 137, 138, 161, 161, 53] {
                    script.probe(1, ProbeClass::Udp, 1, udp(port));
                }
            }),
            (
                "late answers of a server to a resolver with ports from 1024 on, and four clients' services",
                |script| {
                    for step in 0..40u16 {
                        script.at(step.into()).probe(1, ProbeClass::Udp, 1, udp(1_024 + step * 1_577));
                    }
                    for port in [53, 123, 137, 161] {
                        script.probe(1, ProbeClass::Udp, 1, udp(port));
                    }
                },
            ),
            ("media of calls that are over, at ports below 10,000", |script| {
                for call in 0..18 {
                    script.at(3 * u64::from(call)).probe(1, ProbeClass::Udp, 1, udp(9_000 + call * 2));
                }
            }),
            ("late answers of a resolver to hundreds of ports", |script| {
                for step in 0..300u16 {
                    script.probe(1, ProbeClass::Udp, 1, udp(32_768 + step * 97));
                }
            }),
            ("traceroute", |script| {
                for port in 33_434..33_524 {
                    script.at(u64::from(port - 33_434) / 3).probe(1, ProbeClass::Udp, 1, udp(port));
                }
            }),
            ("mtr for ten minutes", |script| {
                for second in 0..600u16 {
                    script.at(second.into()).probe(1, ProbeClass::Udp, 1, udp(33_000 + second));
                }
            }),
            ("media streams of calls that are over", |script| {
                for port in 0..200 {
                    script.probe(1, ProbeClass::Udp, 1, udp(10_000 + port * 2));
                }
            }),
            ("a resolver behind this host", |script| {
                for host in 0..=250 {
                    script.probe_met(1, ProbeClass::Udp, host, udp(53), Reach::Unknown);
                }
            }),
            ("a peer-to-peer client behind this host", |script| {
                for host in 0..=250 {
                    let port = 1_024 + u16::from(host) * 251;
                    script.probe_met(1, ProbeClass::Udp, host, udp(port), Reach::Unknown);
                }
            }),
            ("a peer that goes on after the client has ended", |script| {
                for second in 0..600 {
                    script.at(second).probe(1, ProbeClass::Udp, 1, udp(6_881));
                }
            }),
            ("a client that asks a resolver that is down", |script| {
                for second in 0..600 {
                    script.at(second).probe(1, ProbeClass::Udp, 1, udp(53));
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }
}
