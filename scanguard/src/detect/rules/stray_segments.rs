//! ACK, window and Maimon scans: segments of connections that do not exist, to many closed ports (nmap -sA, -sW, -sM).
//!
//! ACK and window scans differ in what the scanner reads from the answer; on the wire they are the same.
//!
//! Single strays are remains of connections. They go to few services or, if this host was the client, to ephemeral
//! ports; and they come from a source with completed connections.
//!
//! A segment to a service that listens may belong to a connection that this host forgot. Its answer, a RST, says that
//! there is none. One such address is nothing, and neither are a hundred segments to it; many addresses are a sweep.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, Ack, Maimon};

use super::{Common, about, entry::Entry, plural, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique, missed},
    observe::sampled::Kind as Target,
    settings::{Interval, Section},
};

/// The entry of `ack_scan` in the registry.
pub(super) const ACK_SCAN: Entry<Settings> = entry(&ACK, |settings| Box::new(StraySegments(ACK, settings)));
/// The entry of `maimon_scan` in the registry.
pub(super) const MAIMON_SCAN: Entry<Settings> =
    entry(&MAIMON, |settings| Box::new(StraySegments(MAIMON, settings)));

const fn entry(kind: &Kind, build: fn(Settings) -> Box<dyn Rule>) -> Entry<Settings> {
    Entry {
        name: kind.name,
        bans: true,
        default: Settings::default,
        read: Settings::read,
        basics: |settings| settings.common.into(),
        build,
    }
}

/// `[rules.ack_scan]` and `[rules.maimon_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services, below the ephemeral ports.
    services: u32,
    /// Threshold: distinct addresses where the service is closed, or that are dark.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 10,
            hosts: 16,
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
        };
        section.finish();
        settings
    }
}

/// The differences between these rules.
struct Kind {
    name: &'static str,
    classes: &'static [ProbeClass],
    words: &'static str,
    /// Whether segments that listeners refused are among the classes. Their answers do not say whether they had FIN.
    refused: bool,
}

/// nmap -sA, -sW.
const ACK: Kind =
    Kind { name: "ack_scan", classes: &[Ack], words: "an ACK or window scan (nmap -sA, -sW)", refused: true };
/// nmap -sM.
const MAIMON: Kind =
    Kind { name: "maimon_scan", classes: &[Maimon], words: "a Maimon scan (nmap -sM)", refused: false };

/// So many addresses with a service that refused weigh as much as one where it is closed. After a failover, the clients
/// of a balancer send segments of old connections to each of its addresses.
const REFUSED: u64 = 3;

/// Factor for the threshold if the source has recently completed connections.
const PEER_TIMES: u64 = 10;
/// The meaning of "recently".
const LATELY: Duration = Duration::from_secs(60 * 60);

/// The rule.
struct StraySegments(Kind, Settings);

impl Rule for StraySegments {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
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
        let Self(Kind { classes, words, refused, .. }, settings) = self;
        let window = source.window(settings.common.window);
        let assigned = Target::ONLY_SERVICES;
        let services = missed::services(&window.activity, classes, assigned).proven;
        let closed = missed::hosts(&window.activity, classes, assigned).proven;
        let refused = if *refused { window.activity.refused_hosts().value } else { 0 };
        let is_peer = source.history.window(source.at, LATELY).activity.completed() > 0;
        let times = if is_peer { PEER_TIMES } else { 1 };
        let least = u64::from(settings.hosts) * times;
        let certain = services >= u64::from(settings.services) * times || closed >= least;
        if !certain && closed + refused / REFUSED < least {
            return None;
        }
        let probes = probes_in_words(&window.activity.counts.only(classes));
        let within = Interval(settings.common.window);
        let to = format!(
            "{} closed {} of {} {}",
            about(services),
            plural(services, "service"),
            about(closed),
            plural(closed, "address"),
        );
        let reason = if certain {
            format!("{probes} that belong to no connection to {to} within {within}: {words}")
        } else {
            format!(
                "{probes} that belong to no connection within {within}, to {} {} whose services refused them, and to {to}: {words}",
                about(refused),
                plural(refused, "address"),
            )
        };
        Some(Evidence { window, reason, certain, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, tcp};

    fn rule(kind: Kind) -> Box<dyn Rule> {
        Box::new(StraySegments(kind, Settings::default()))
    }

    #[test]
    fn strays_to_many_services_are_scans() {
        for (kind, class) in [(ACK, Ack), (MAIMON, Maimon)] {
            let found = found(rule(kind), |script| {
                for port in 1..=20 {
                    script.probe(1, class, 1, tcp(port));
                }
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn strays_to_one_service_of_many_addresses_are_a_scan() {
        let found = found(rule(ACK), |script| {
            for host in 1..=30 {
                script.probe(1, Ack, host, tcp(80));
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn a_sweep_that_listeners_refuse_is_found_by_its_addresses_and_is_not_certain() {
        let mut script = Script::new(rule(ACK), crate::detect::settings::Settings::default());
        for host in 1..=95 {
            script.at(u64::from(host) / 4).refused(1, host, 443);
        }
        let findings: Vec<_> = script.events().into_iter().map(|event| event.finding.confidence).collect();
        assert_eq!(findings.first(), Some(&crate::detect::Confidence::Low), "{findings:?}");
    }

    #[test]
    fn connections_that_this_host_forgot_are_no_sweep() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 4] = [
            ("500 connections of a site to one service", |script| {
                for second in 0..500 {
                    script.at(second / 10).refused(1, 1, 443);
                }
            }),
            ("a balancer with two services at twelve addresses", |script| {
                for step in 0..600 {
                    let (host, port) = (u8::try_from(step % 12).unwrap(), [80, 443][step % 2]);
                    script.at(u64::try_from(step / 20).unwrap()).refused(1, host, port);
                }
            }),
            ("the idle connections of a computer that slept, to twenty services", |script| {
                for port in 1..=20 {
                    script.refused(1, 1, port * 100);
                }
            }),
            ("clients that came back, to all addresses of a host", |script| {
                script.completed(1).open(1, 1, 443).completed(1);
                for host in 0..=250 {
                    script.refused(1, host, 443);
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(ACK), play), NOBODY, "{name}");
        }
    }

    #[test]
    fn what_is_left_of_connections_is_not() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 3] = [
            ("clients of a service that is gone", |script| {
                for second in 0..600 {
                    script.at(second).probe(1, Ack, 1, tcp(443));
                }
            }),
            ("a server whose client on this host was killed", |script| {
                for port in 0..500 {
                    script.probe(1, Ack, 1, tcp(33_000 + port));
                }
            }),
            ("a peer of fifteen services that were restarted", |script| {
                for port in 1..=15 {
                    script.completed(1).open(1, 1, port);
                }
                script.at(600);
                for port in 1..=15 {
                    script.probe(1, Ack, 1, tcp(port));
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(ACK), play), NOBODY, "{name}");
        }
    }
}
