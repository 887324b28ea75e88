//! SCTP and IP-protocol scans (nmap -sY, -sZ, -sO). An edge host uses few of these protocols or none.
//!
//! The reach of such a probe is never known, since there are no sockets to ask. Peers that use SCTP use two or three
//! ports, and no peer uses many IP protocols.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, IpProtocol, SctpCookieEcho, SctpInit};

use super::{Common, about, entry::Entry, plural, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique, missed},
    observe::sampled::Kind as Target,
    settings::{Interval, Section},
};

/// The entry of `sctp_scan` in the registry.
pub(super) const SCTP_SCAN: Entry<Settings> = Entry {
    name: SCTP_KIND.name,
    bans: true,
    default: || SCTP_DEFAULT,
    read: |section| Settings::read(section, SCTP_DEFAULT),
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(RareProtocols(SCTP_KIND, settings)),
};

/// The entry of `ip_protocol_scan` in the registry.
pub(super) const IP_PROTOCOL_SCAN: Entry<Settings> = Entry {
    name: IP_PROTOCOL_KIND.name,
    bans: true,
    default: || IP_PROTOCOL_DEFAULT,
    read: |section| Settings::read(section, IP_PROTOCOL_DEFAULT),
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(RareProtocols(IP_PROTOCOL_KIND, settings)),
};

/// `[rules.sctp_scan]` and `[rules.ip_protocol_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct ports or protocols.
    services: u32,
    /// Threshold: distinct addresses.
    hosts: u32,
}

/// The defaults of `[rules.sctp_scan]`.
const SCTP_DEFAULT: Settings = Settings { services: 8, ..IP_PROTOCOL_DEFAULT };
/// The defaults of `[rules.ip_protocol_scan]`.
const IP_PROTOCOL_DEFAULT: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
    services: 5,
    hosts: 12,
};

impl Settings {
    fn read(mut section: Section<'_, '_>, default: Self) -> Self {
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// The differences between these rules.
struct Kind {
    name: &'static str,
    classes: &'static [ProbeClass],
    services: &'static str,
    words: &'static str,
}

/// nmap -sY, -sZ.
const SCTP_KIND: Kind = Kind {
    name: "sctp_scan",
    classes: &[SctpInit, SctpCookieEcho],
    services: "port",
    words: "an SCTP scan (nmap -sY, -sZ)",
};
/// nmap -sO.
const IP_PROTOCOL_KIND: Kind = Kind {
    name: "ip_protocol_scan",
    classes: &[IpProtocol],
    services: "protocol",
    words: "an IP protocol scan (nmap -sO)",
};

/// The rule.
struct RareProtocols(Kind, Settings);

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
        Box::new(RareProtocols(SCTP_KIND, SCTP_DEFAULT))
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
            let rule = Box::new(RareProtocols(IP_PROTOCOL_KIND, IP_PROTOCOL_DEFAULT));
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
