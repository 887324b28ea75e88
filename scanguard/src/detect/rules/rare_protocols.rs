//! SCTP and IP-protocol scans (nmap -sY, -sZ, -sO): protocols of which an edge host speaks few or none.
//!
//! What such a probe met is never known, since there are no sockets to ask. Peers that speak SCTP use two or three
//! ports; nobody speaks many IP protocols.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, IpProtocol, SctpCookieEcho, SctpInit};

use super::{Common, about, plural, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique, missed},
    observe::sampled::Kind as Target,
    settings::{Interval, Section},
};

/// `[rules.sctp_scan]` and `[rules.ip_protocol_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// Distinct ports or protocols from which on it is a scan.
    pub services: u32,
    /// Distinct addresses from which on it is a scan.
    pub hosts: u32,
}

/// `[rules.sctp_scan]`.
pub(super) const SCTP: Settings = Settings { services: 8, ..IP_PROTOCOL };
/// `[rules.ip_protocol_scan]`.
pub(super) const IP_PROTOCOL: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
    services: 5,
    hosts: 12,
};

impl Settings {
    pub(super) fn read(mut section: Section<'_, '_>, default: Self) -> Self {
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// What tells one of these rules from the other.
pub(super) struct Kind {
    name: &'static str,
    classes: &'static [ProbeClass],
    services: &'static str,
    words: &'static str,
}

/// nmap -sY, -sZ.
pub(super) const SCTP_SCAN: Kind = Kind {
    name: "sctp_scan",
    classes: &[SctpInit, SctpCookieEcho],
    services: "port",
    words: "an SCTP scan (nmap -sY, -sZ)",
};
/// nmap -sO.
pub(super) const IP_PROTOCOL_SCAN: Kind = Kind {
    name: "ip_protocol_scan",
    classes: &[IpProtocol],
    services: "protocol",
    words: "an IP protocol scan (nmap -sO)",
};

/// The rule.
pub(super) struct RareProtocols(pub(super) Kind, pub(super) Settings);

impl Rule for RareProtocols {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.1.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        self.0.classes
    }

    fn soonest(&self) -> u32 {
        self.1.services.min(self.1.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let Self(kind, settings) = self;
        let window = source.window(settings.common.window);
        let services = missed::services(&window.activity, kind.classes, &[Target::Other]).possible;
        let hosts = missed::hosts(&window.activity, kind.classes, &[Target::Other]).possible;
        if services < u64::from(settings.services) && hosts < u64::from(settings.hosts) {
            return None;
        }
        let reason = format!(
            "{} to {} {} of {} {} within {}: {}",
            probes_in_words(&window.activity.counts.only(kind.classes)),
            about(services),
            plural(services, kind.services),
            about(hosts.max(1)),
            plural(hosts.max(1), "address"),
            Interval(settings.common.window),
            kind.words,
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{oracle::Reach, outcome::Service};

    use super::*;
    use crate::detect::rules::testing::{NOBODY, found};

    fn sctp() -> Box<dyn Rule> {
        Box::new(RareProtocols(SCTP_SCAN, SCTP))
    }

    #[test]
    fn many_sctp_ports_are_a_scan() {
        for class in [SctpInit, SctpCookieEcho] {
            let found = found(sctp(), |script| {
                for port in 1..=20 {
                    script.probe_met(1, class, 1, Service { protocol: 132, port }, Reach::Unknown);
                }
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn a_signalling_peer_that_tries_on_is_not() {
        let found = found(sctp(), |script| {
            for second in 0..600 {
                for port in [2905, 3868, 36_412] {
                    script.at(second).probe_met(
                        1,
                        SctpInit,
                        1,
                        Service { protocol: 132, port },
                        Reach::Unknown,
                    );
                }
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn many_protocols_are_a_scan_and_two_are_not() {
        for (protocols, expected) in [(2, NOBODY.to_vec()), (20, vec![1])] {
            let rule = Box::new(RareProtocols(IP_PROTOCOL_SCAN, IP_PROTOCOL));
            let found = found(rule, |script| {
                for protocol in 140..140 + protocols {
                    let service = Service { protocol, port: 0 };
                    script.probe_met(1, IpProtocol, 1, service, Reach::Unknown);
                }
            });
            assert_eq!(found, expected, "{protocols} protocols");
        }
    }
}
