//! Half-open scan: one source sends SYNs to many open services and aborts each handshake when the service answers
//! (nmap -sS of open ports, also before -sV; masscan; zmap).
//!
//! Clients abort handshakes too: they race two addresses of a service (happy eyeballs), give up, or go away. But they
//! use few services, however often they abort; the same holds for half-open health checks. Only distinct services
//! count, and the rule recognizes a source that aborts the same ones over and over after some rounds. In its first round
//! a load balancer looks like a scan of open services only. Both have the severity `info`, unless closed services are
//! tried, too.
//!
//! A match is no evidence against the owner of an address that somebody else wrote into SYNs: the owner's stack
//! aborts handshakes that it did not begin.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    Common,
    entry::Entry,
    plural,
    services::{Settings, severity},
};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    observe::activity::Activity,
    settings::Interval,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "half_open_scan",
    // SYNs with a forged address also make the owner of the address abort the handshakes.
    bans: false,
    default: || DEFAULT,
    read: |section| Settings::read(section, DEFAULT),
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(HalfOpenScan(settings)),
};

/// The default settings. Eight services set six or more of the 64 bits with a probability of 99.6 %.
const DEFAULT: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(5 * 60), severity: Severity::Low },
    services: 6,
};

/// A source is known if all its aborts are this many times those of one window, and no aborted service is new.
const ROUNDS: u64 = 4;

/// The rule.
struct HalfOpenScan(Settings);

impl Rule for HalfOpenScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        severity(self.0.common, evidence, evidence.window.activity.aborted_services().value)
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn concerns(&self, new: &Activity) -> bool {
        // The abort may arrive after the poll that saw the SYN.
        new.aborted() > 0
    }

    fn soonest(&self) -> u32 {
        self.0.services
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let (aborted, services) = (window.activity.aborted(), window.activity.aborted_services().value);
        let least = u64::from(self.0.services);
        if services < least {
            return None;
        }
        let before = source.before(length);
        let is_new = window.activity.aborted_services_not_in(&before).value >= least;
        if !is_new && before.aborted() + aborted >= aborted * ROUNDS {
            return None;
        }
        let reason = format!(
            "{aborted} {} with about {services} {} that answered, aborted by the source within {}: a SYN scan of open \
             services (nmap -sS), or forged SYNs that the address's owner refuses",
            plural(aborted, "handshake"),
            plural(services, "service"),
            Interval(length),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{
        Confidence,
        findings::Spoofable,
        rules::testing::{NOBODY, Script, found, told},
        settings,
    };

    const EIGHT: [u16; 8] = [21, 22, 25, 80, 110, 143, 443, 3306];

    fn rule() -> Box<dyn Rule> {
        Box::new(HalfOpenScan(DEFAULT))
    }

    fn scan(script: &mut Script) {
        for port in EIGHT {
            script.half_open(1, 1, port);
        }
    }

    #[test]
    fn handshakes_aborted_with_many_services_are_found_and_say_that_they_may_be_forged() {
        let mut script = Script::new(rule(), settings::Settings::default());
        scan(&mut script);
        for _ in 0..20 {
            script.completed(1);
        }
        let events = script.events();
        let finding = &events[0].finding;
        assert_eq!((finding.rule, finding.aborted(), finding.completed()), ("half_open_scan", 8, 20));
        // Connections of the address's owner do not prove that the owner sent the SYNs.
        assert_eq!((finding.spoofable, finding.confidence), (Spoofable::Yes, Confidence::Medium));
        assert!(finding.reason.starts_with("8 handshakes with about "), "{}", finding.reason);
    }

    #[test]
    fn a_source_that_tries_closed_services_too_is_no_load_balancer() {
        let severity = |closed: u16| {
            let mut script = Script::new(rule(), settings::Settings::default());
            (1..=closed).for_each(|port| _ = script.syn(1, 1, 7_000 + port));
            scan(&mut script);
            script.events()[0].finding.severity
        };
        assert_eq!((severity(0), severity(2), severity(8)), (Severity::Info, Severity::Info, Severity::Low));
    }

    #[test]
    fn aborts_that_come_after_the_poll_that_saw_the_probes_count() {
        let found = found(rule(), |script| {
            for port in EIGHT {
                script.open(1, 1, port);
            }
            script.at(1);
            for port in EIGHT {
                script.abort(1, 1, port);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn a_scan_by_one_who_retried_a_service_for_hours_is_found_all_the_same() {
        let found = found(rule(), |script| {
            for minute in 0..60 {
                script.at(minute * 60);
                for _ in 0..10 {
                    script.half_open(1, 1, 22);
                }
            }
            script.at(4_000);
            scan(script);
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn a_check_of_ten_services_that_goes_on_for_hours_is_told_once() {
        let mut script = Script::new(rule(), settings::Settings::default());
        for round in 0..2_000 {
            script.at(round * 5);
            for port in 1..=10 {
                script.half_open(1, 1, port);
            }
        }
        script.at(20_000);
        let told: Vec<_> = script.events().iter().map(|event| event.kind.label()).collect();
        assert_eq!((told.first(), told.last()), (Some(&"opened"), Some(&"closed")));
        assert_eq!(told.iter().filter(|kind| **kind == "opened").count(), 1, "{told:?}");
    }

    #[test]
    fn clients_are_not_found() {
        type Play = fn(&mut Script);
        let quiet: [(&str, Play); 5] = [
            ("a half-open check of four services each second", |script| {
                for second in 0..600 {
                    for port in [22, 25, 80, 443] {
                        script.at(second).half_open(1, 1, port);
                    }
                }
            }),
            ("happy eyeballs that lose at thirty addresses of two services", |script| {
                for host in 1..=30 {
                    script.at(u64::from(host)).half_open(1, host, 80).half_open(1, host, 443);
                }
            }),
            ("a client that gives up one service five hundred times", |script| {
                for second in 0..500 {
                    script.at(second).half_open(1, 1, 443);
                }
            }),
            ("a user of twelve services who completes all", |script| {
                for port in 1..=12 {
                    script.open(1, 1, port * 50).completed(1);
                }
            }),
            ("another service every minute and a half", |script| {
                for step in 0..40 {
                    script.at(u64::from(step) * 90).half_open(1, 1, 1_000 + step);
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }

    #[test]
    fn what_says_more_of_the_same_scan_takes_it_over() {
        let versions = told(|script| {
            scan(script);
            for port in 1..=30 {
                script.at(2).open(1, 1, 5_000 + port).completed(1).completed(1);
            }
        });
        assert_eq!(versions, ["service_probe"]);
        let many = told(|script| {
            scan(script);
            for port in 1_000..1_040 {
                script.at(2).syn(1, 1, port);
            }
        });
        assert_eq!(many, ["vertical_scan"]);
    }
}
