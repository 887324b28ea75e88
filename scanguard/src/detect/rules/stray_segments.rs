//! ACK, window and Maimon scans: segments of connections that do not exist, to many closed ports (nmap -sA, -sW, -sM).
//!
//! ACK and window scans differ in what the scanner reads from the answer; on the wire they are the same.
//!
//! Single strays are remains of connections. They go to few services or, if this host was the client, to ephemeral
//! ports; and they come from a source with completed connections.

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
}

/// nmap -sA, -sW.
const ACK: Kind = Kind { name: "ack_scan", classes: &[Ack], words: "an ACK or window scan (nmap -sA, -sW)" };
/// nmap -sM.
const MAIMON: Kind = Kind { name: "maimon_scan", classes: &[Maimon], words: "a Maimon scan (nmap -sM)" };

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
        let Self(Kind { classes, words, .. }, settings) = self;
        let window = source.window(settings.common.window);
        let assigned = Target::ONLY_SERVICES;
        let services = missed::services(&window.activity, classes, assigned).proven;
        let hosts = missed::hosts(&window.activity, classes, assigned).proven;
        let is_peer = source.history.window(source.at, LATELY).activity.completed() > 0;
        let times = if is_peer { PEER_TIMES } else { 1 };
        let many =
            services >= u64::from(settings.services) * times || hosts >= u64::from(settings.hosts) * times;
        if !many {
            return None;
        }
        let reason = format!(
            "{} that belong to no connection to {} closed {} of {} {} within {}: {words}",
            probes_in_words(&window.activity.counts.only(classes)),
            about(services),
            plural(services, "service"),
            about(hosts),
            plural(hosts, "address"),
            Interval(settings.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
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
