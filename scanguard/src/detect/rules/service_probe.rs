//! Service probing: one source completes connections to many open services (nmap -sV, banner grabbing, nuclei).
//!
//! Only services with which the kernel completed connections count, since SYNs to open ports may be forged. Of these,
//! only ports below 10,000 count, since FTP and RPC open further ports while they run; and the program leaves out ports
//! above 1,023 that have just begun to listen, as those of passive FTP do. A source that repeats the same connections,
//! as monitoring does, is known after some rounds and then gives no more findings. The first round of a monitor looks
//! like a scan of open services only. Both have the severity `info`, unless closed services are tried, too.
//!
//! Fewer services are enough if the source said nothing to them (nmap -sT of open ports): clients connect in order to say
//! something. Monitors say nothing either, but to the same few services for ever.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, about, entry::Entry, least, services::severity};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique},
    observe::activity::Activity,
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "service_probe",
    // It may be monitoring that has just started.
    bans: false,
    default: || DEFAULT,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(ServiceProbe(settings)),
};

/// `[rules.service_probe]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services.
    services: u32,
    /// The same threshold if the source said nothing to them.
    silent_services: u32,
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self {
            common: Common::read(&mut section, DEFAULT.common),
            // Above 150 a bitmap of 64 bits is not precise enough, and above 50 what 20 bits and the exact ports make.
            services: section.number("services", DEFAULT.services, 2..=150),
            silent_services: section.number("silent_services", DEFAULT.silent_services, 2..=50),
        };
        let strong = ("silent_services", settings.silent_services);
        least(&section, strong, ("services", settings.services));
        section.finish();
        settings
    }
}

/// The default settings. Monitors of hosts check about ten ports. Mail clients use up to seven services, and users of everything on a host use a dozen.
const DEFAULT: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(5 * 60), severity: Severity::Low },
    services: 20,
    silent_services: 11,
};

/// A source is known if all its connections are this many times those of one window.
const ROUNDS: u64 = 4;

/// So many services are enough for a source most of whose SYNs look like those of a listed scanner. No client's do, and
/// clients use fewer services on the average.
const CRAFTED: u64 = 6;

/// Whether most SYNs of a source look like those of a listed scanner.
fn is_crafted(activity: &Activity) -> bool {
    u64::from(activity.crafted().syns) * 2 > activity.counts.of(ProbeClass::Syn)
}

/// The rule.
struct ServiceProbe(Settings);

impl Rule for ServiceProbe {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning, Technique::GatherSoftware]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        severity(self.0.common, evidence, evidence.window.activity.connected_services().value)
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &[ProbeClass::Syn]
    }

    fn covers(&self) -> &'static [&'static str] {
        &["half_open_scan", "known_bad"]
    }

    fn soonest(&self) -> u32 {
        // Services that are met are no novelties; the poll finds the source.
        crate::detect::NOT_AT_ONCE
    }

    fn concerns(&self, new: &Activity) -> bool {
        // A connection may end after the poll that saw its beginning.
        new.completed() > 0 || new.silent() > 0
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let activity = &window.activity;
        let (services, silent) = (activity.connected_services().value, activity.silent_services().value);
        let connections = format!(
            "{} connections completed to {} open services within {}",
            activity.completed(),
            about(services),
            Interval(self.0.common.window),
        );
        let mut proof = Proof::Connection;
        let reason = if services >= CRAFTED && is_crafted(activity) {
            // Anybody can have sent the SYNs that look like a scanner's.
            proof = Proof::None;
            format!(
                "{connections}, and most SYNs look like a scanner's: services and versions are probed (masscan --banners)"
            )
        } else if services >= u64::from(self.0.services) {
            let ever = source.history.window(source.at, Duration::MAX).activity.completed();
            if ever >= activity.completed() * ROUNDS {
                return None;
            }
            format!("{connections}: services and versions are probed (nmap -sV)")
        } else {
            let (least, before) = (u64::from(self.0.silent_services), source.before(self.0.common.window));
            let is_new = activity.silent_services_not_in(&before).value >= least;
            let is_known = before.silent() + activity.silent() >= activity.silent() * ROUNDS;
            if silent < least || is_known && !is_new {
                return None;
            }
            format!(
                "{connections}, and nothing said to {} of them: a scan for open services (nmap -sT)",
                about(silent)
            )
        };
        Some(Evidence { window, reason, certain: true, proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{
        Confidence,
        findings::Spoofable,
        rules::testing::{NOBODY, Script, found},
        settings,
    };

    fn rule() -> Box<dyn Rule> {
        Box::new(ServiceProbe(DEFAULT))
    }

    #[test]
    fn connections_to_many_open_services_are_found() {
        let found = found(rule(), |script| {
            for port in 1..=40 {
                script.at(u64::from(port)).open(1, 1, port * 100).completed(1);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn few_services_are_enough_if_nothing_is_said_to_them() {
        let ports = [21, 22, 25, 80, 110, 143, 443, 993, 3306, 5432, 8080, 8443];
        let scan = |services: usize| {
            found(rule(), |script| {
                ports[..services].iter().for_each(|port| _ = script.silent(1, 1, *port));
            })
        };
        assert_eq!((scan(11), scan(10)), (vec![1], NOBODY.to_vec()));
        let monitor = found(rule(), |script| {
            for second in 0..20 {
                script.at(second * 10);
                ports[..10].iter().for_each(|port| _ = script.silent(1, 1, *port));
            }
        });
        assert_eq!(monitor, NOBODY, "ten services, again and again");
        let mut script = Script::new(rule(), settings::Settings::default());
        for second in (0..3_600).step_by(60) {
            script.at(second);
            ports.iter().for_each(|port| _ = script.silent(1, 1, *port));
        }
        let findings: Vec<_> = script.events().into_iter().map(|event| event.finding.severity).collect();
        assert!(findings.iter().all(|severity| *severity == Severity::Info), "{findings:?}");
    }

    #[test]
    fn a_source_that_tries_closed_services_too_is_no_monitor() {
        let severity = |closed: u16| {
            let mut script = Script::new(rule(), settings::Settings::default());
            (1..=closed).for_each(|port| _ = script.syn(1, 1, 7_000 + port));
            (1..=40).for_each(|port| _ = script.open(1, 1, port * 100).completed(1));
            script.events()[0].finding.severity
        };
        assert_eq!((severity(0), severity(4), severity(30)), (Severity::Info, Severity::Info, Severity::Low));
    }

    #[test]
    fn what_is_counted_is_proven() {
        let mut script = Script::new(rule(), settings::Settings::default());
        for port in 1..=40 {
            script.open(1, 1, port * 100).completed(1);
        }
        let known = script.events()[0].finding.known();
        assert_eq!(known, (Confidence::High, Spoofable::No { completed: 40 }));
    }

    #[test]
    fn syns_in_the_name_of_a_client_to_services_that_it_does_not_use_count_for_nothing() {
        let found = found(rule(), |script| {
            for second in 0..40u16 {
                script.at(second.into()).open(1, 1, second * 100 + 1).open(1, 1, 443).completed(1);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn clients_are_not() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 6] = [
            ("monitoring of five services each second", |script| {
                for second in 0..600 {
                    for port in [22, 25, 80, 443, 3306] {
                        script.at(second).open(1, 1, port).completed(1);
                    }
                }
            }),
            ("a mail client", |script| {
                for second in 0..600 {
                    for port in [25, 110, 143, 465, 587, 993, 995] {
                        script.at(second * 10).open(1, 1, port).completed(1);
                    }
                }
            }),
            ("a user of twelve services", |script| {
                for round in 0..3 {
                    for port in 1..=12 {
                        script.at(round * 10).open(1, 1, port * 50).completed(1);
                    }
                }
            }),
            ("passive FTP", |script| {
                for file in 0..60u16 {
                    script.at(file.into()).open(1, 1, 21).open(1, 1, 50_000 + file * 13);
                    script.completed(1).completed(1);
                }
            }),
            ("two thousand connections from one NAT address", |script| {
                for step in 0..2_000 {
                    script.at(step / 50).open(1, 1, 443).completed(1);
                }
            }),
            ("a scan that completes nothing", |script| {
                for port in 1..=40 {
                    script.open(1, 1, port);
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }
}
