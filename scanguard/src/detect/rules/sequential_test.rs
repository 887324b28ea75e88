//! Sequential test: a source fails far more often than clients do, on any targets.
//!
//! Threshold random walk (Jung, Paxson, Berger, Balakrishnan: Fast Portscan Detection Using Sequential Hypothesis
//! Testing, IEEE S&P 2004) on distinct targets: a client meets a service with probability theta0, a scanner with
//! theta1. Each success or failure moves the likelihood ratio; beyond (1 - beta) / alpha it is a scanner, where
//! alpha is the probability of a false accusation, and beta of a miss.
//!
//! Only distinct targets count, since a client retries. A probe whose answer nobody would see is no failure. Each distinct
//! target counts once, so a busy client gains nothing, and a service that went down costs it one failure.
//!
//! Few failures are enough if they have nothing to do with each other. Honest clients try several ports of one service
//! (a mail program that does not know its server), so failures count by families of services, see
//! [`scanguard_common::family`]. A family of which the source met a service is no failure, nor is a service that was
//! there within the last day. A success that the source aborted, or in which it said nothing, does not speak for it. Such
//! findings say how little it was: their severity is `low`, and so is their confidence.
//!
//! Where nobody sees what was answered, SYNs that scanners craft are enough by their number: no client sends them.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, about, entry::Entry, plural};
use crate::{
    detect::{
        Evidence, Plain, Proof, Rule, Severity, Source, Technique, crafted,
        missed::{self, ATTEMPTS},
    },
    observe::{activity::Activity, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "sequential_test",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(SequentialTest(settings)),
};

/// `[rules.sequential_test]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Probability that a client meets a service.
    theta0: f64,
    /// Probability that a scanner does.
    theta1: f64,
    /// Probability of a false accusation.
    alpha: f64,
    /// Probability of a miss.
    beta: f64,
    /// So many more families of services than successes are enough.
    families: u32,
    /// So many distinct targets are enough if they were asked for by crafted SYNs, and nobody knows what was met.
    crafted_targets: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common {
                enabled: true,
                window: Duration::from_secs(10 * 60),
                severity: Severity::Medium,
            },
            theta0: 0.8,
            theta1: 0.2,
            alpha: 0.000_01,
            beta: 0.01,
            families: 5,
            crafted_targets: 16,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            theta0: section.number("theta0", default.theta0, 0.01..=0.99),
            theta1: section.number("theta1", default.theta1, 0.01..=0.99),
            alpha: section.number("alpha", default.alpha, 1e-12..=0.1),
            beta: section.number("beta", default.beta, 1e-12..=0.5),
            families: section.number("families", default.families, 3..=64),
            crafted_targets: section.number("crafted_targets", default.crafted_targets, 3..=700),
        };
        if settings.theta1 >= settings.theta0 {
            let message = format!(
                "theta1 = {} is not below theta0 = {}: scanners meet services less often than clients",
                settings.theta1, settings.theta0
            );
            section.contradiction(&["theta1", "theta0"], message);
        }
        section.finish();
        settings
    }

    /// Logarithm of the likelihood ratio above which the source is a scanner.
    fn threshold(&self) -> f64 {
        ((1.0 - self.beta) / self.alpha).ln()
    }

    /// Logarithm of the likelihood ratio after this many failures and successes.
    fn walk(&self, failures: u64, successes: u64) -> f64 {
        let failure = ((1.0 - self.theta1) / (1.0 - self.theta0)).ln();
        let success = (self.theta1 / self.theta0).ln();
        failures as f64 * failure + successes as f64 * success
    }

    /// Whether this walk ends beyond the threshold.
    fn is_beyond(&self, failures: u64, successes: u64) -> bool {
        self.walk(failures, successes) >= self.threshold()
    }

    /// The least number of failures, each of this weight, with which the rule can match.
    fn least(&self, weight: u64) -> u32 {
        let failures = (1..=10_000).find(|failures| self.is_beyond(failures * weight, 0));
        failures.and_then(|failures| u32::try_from(failures).ok()).unwrap_or(u32::MAX)
    }
}

/// The rule.
struct SequentialTest(Settings);

impl Rule for SequentialTest {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        let Tries { failures, successes, .. } = Tries::of(&evidence.window.activity);
        if self.0.is_beyond(failures, successes) {
            self.severity()
        } else {
            self.severity().min(Severity::Low)
        }
    }

    fn soonest(&self) -> u32 {
        self.0.families.min(self.0.least(crafted::WEIGHT))
    }

    fn plain(&self) -> Option<Plain> {
        // A success must weigh no more than a failure: the kernel requires one more failure for each success.
        let even = self.0.walk(1, 1) >= 0.0;
        let services = self.0.least(1);
        even.then(|| Plain { rule: self.name(), services, window: self.0.common.window })
    }

    fn covers(&self) -> &'static [&'static str] {
        &["half_open_scan", "slow_scan", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let activity = &window.activity;
        let Tries { services, hosts, failures, successes } = Tries::of(activity);
        let is_walk = self.0.is_beyond(failures, successes);
        // Failures by crafted SYNs weigh more.
        let is_crafted =
            self.0.is_beyond(crafted::weighed(activity, failures), crafted::successes(activity, successes));
        let families = activity.failed_families();
        let clean =
            successes.saturating_sub(activity.aborted_services().value.max(activity.silent_services().value));
        // Where the answers are not seen, nobody knows what was met.
        let is_seen = activity.unsure() == 0;
        let is_varied = is_seen && families >= u64::from(self.0.families) + clean;
        let crafted_targets = crafted::targets(activity, tried(activity));
        let is_blind = !is_seen && crafted_targets >= u64::from(self.0.crafted_targets);
        if !is_walk && !is_crafted && !is_varied && !is_blind {
            return None;
        }
        let met = if successes == 1 { "met a service" } else { "met services" };
        let reason = if is_walk || is_crafted {
            format!(
                "{} distinct attempts failed and {successes} {met} within {}: {} closed or filtered {} of {} {}",
                about(failures),
                Interval(length),
                about(services),
                plural(services, "service"),
                about(hosts.max(1)),
                plural(hosts.max(1), "address"),
            )
        } else if is_blind {
            format!(
                "attempts at {} distinct targets within {} by SYNs that scanners craft, and nobody knows what was met",
                about(crafted_targets),
                Interval(length),
            )
        } else {
            format!(
                "attempts at {families} kinds of services met none of them and {clean} {met} within {}: {} closed or \
                 filtered {}, which no client looks for together",
                Interval(length),
                about(services),
                plural(services, "service"),
            )
        };
        Some(Evidence { window, reason, certain: is_walk, proof: Proof::None })
    }
}

/// Distinct services, or addresses if these are more, that a source asked for, unless they surely met it.
fn tried(activity: &Activity) -> u64 {
    let services = missed::services(activity, ATTEMPTS, Kind::SERVICES).possible;
    services.max(missed::hosts(activity, ATTEMPTS, Kind::SERVICES).possible)
}

/// The distinct targets of a source.
struct Tries {
    services: u64,
    hosts: u64,
    failures: u64,
    successes: u64,
}

impl Tries {
    fn of(activity: &Activity) -> Self {
        // Ephemeral ports do not count: a client of passive FTP behind a filter fails on a different one each time.
        let assigned = Kind::SERVICES;
        let services = missed::services(activity, ATTEMPTS, assigned).proven;
        let hosts = missed::hosts(activity, ATTEMPTS, assigned).proven;
        Self { services, hosts, failures: services.max(hosts), successes: missed::successes(activity) }
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{oracle::Reach, outcome::Answer};

    use super::*;
    use crate::detect::{
        Confidence,
        rules::testing::{NOBODY, Script, found, tcp},
    };

    type Play = fn(&mut Script);

    fn rule() -> Box<dyn Rule> {
        Box::new(SequentialTest(Settings::default()))
    }

    #[test]
    fn nine_failures_without_a_success_are_enough_and_three_by_crafted_syns() {
        assert_eq!((rule().plain().unwrap().services, rule().soonest()), (9, 3));
    }

    #[test]
    fn what_is_said_to_be_plain_is_found_and_one_less_is_not() {
        let plain = rule().plain().unwrap();
        let misses = u16::try_from(plain.services).unwrap();
        for (successes, less, expected) in [(0, 0, vec![1]), (0, 1, NOBODY.to_vec()), (3, 0, vec![1])] {
            let found = found(rule(), |script| {
                for port in 0..successes {
                    script.open(1, 1, 5_000 + port);
                }
                for port in 0..misses + successes - less {
                    script.syn(1, 1, 1_000 + port);
                }
            });
            assert_eq!(found, expected, "{successes} successes, {less} less");
        }
        for (less, expected) in [(0, [1].as_slice()), (1, &NOBODY)] {
            let swept = found(rule(), |script| {
                for host in 0..misses - less {
                    script.syn(1, u8::try_from(host).unwrap(), 80);
                }
            });
            assert_eq!(swept, expected, "one service at {less} addresses less");
        }
        let uneven = Settings { theta1: 0.1, theta0: 0.7, ..Settings::default() };
        assert_eq!(SequentialTest(uneven).plain(), None);
    }

    #[test]
    fn those_who_mostly_fail_are_found() {
        let scans: [(&str, Play); 3] = [
            ("a port every twenty seconds", |script| {
                for port in 1..=40 {
                    script.at(u64::from(port) * 20).syn(1, 1, port);
                }
            }),
            ("a few successes among many failures", |script| {
                for port in 1..=20 {
                    script.syn(1, 1, port);
                }
                script.open(1, 1, 22).open(1, 1, 80).open(1, 1, 443);
            }),
            ("dark addresses", |script| {
                for host in 1..=14 {
                    script.probe_met(1, ProbeClass::Syn, host, tcp(22), Reach::Dark);
                }
            }),
        ];
        for (name, play) in scans {
            assert_eq!(found(rule(), play), [1], "{name}");
        }
    }

    #[test]
    fn few_services_that_have_nothing_in_common_are_enough() {
        let closed: [(&str, &[u16]); 4] = [
            ("those of container hosts", &[2375, 2376, 2379, 6443, 8001, 10_250, 10_255]),
            ("ten", &[21, 23, 25, 110, 139, 445, 1433, 3389, 5900, 8443]),
            ("seven of them", &[21, 110, 139, 445, 1433, 3389, 8443]),
            ("five", &[22, 23, 1433, 3389, 5900]),
        ];
        for (name, ports) in closed {
            let mut script = Script::new(rule(), crate::detect::settings::Settings::default());
            ports.iter().for_each(|port| _ = script.syn(1, 1, *port));
            let [event] = script.events().try_into().unwrap_or_else(|events| panic!("{name}: {events:?}"));
            let is_little = ports.len() < 9;
            assert_eq!(event.finding.severity == Severity::Low, is_little, "{name}");
            assert_eq!(event.finding.confidence == Confidence::Low, is_little, "{name}: {event:?}");
        }
        let with_open = |meet: fn(&mut Script, u16)| {
            found(rule(), |script| {
                [21, 23, 25, 110, 139, 445].iter().for_each(|port| _ = script.syn(1, 1, *port));
                meet(script, 3389);
            })
        };
        let aborted = with_open(|script, port| _ = script.half_open(1, 1, port));
        let silent = with_open(|script, port| _ = script.silent(1, 1, port));
        let met = with_open(|script, port| _ = script.open(1, 1, port).completed(1));
        assert_eq!((aborted, silent, met), (NOBODY.to_vec(), NOBODY.to_vec(), NOBODY.to_vec()), "four kinds");
        let with_open = |meet: fn(&mut Script, u16)| {
            found(rule(), |script| {
                [21, 23, 25, 110, 445, 6379].iter().for_each(|port| _ = script.syn(1, 1, *port));
                meet(script, 3389);
            })
        };
        let aborted = with_open(|script, port| _ = script.half_open(1, 1, port));
        let silent = with_open(|script, port| _ = script.silent(1, 1, port));
        let met = with_open(|script, port| _ = script.open(1, 1, port).completed(1));
        assert_eq!((aborted, silent, met), (vec![1], vec![1], NOBODY.to_vec()), "five kinds");
    }

    #[test]
    fn services_behind_this_host_fail_as_soon_as_they_refuse() {
        let found = found(rule(), |script| {
            script.sees_answers();
            for port in [22, 23, 1433, 3389, 5900] {
                script.probe_met(1, ProbeClass::Syn, 1, tcp(port), Reach::Unknown).answer(1, Answer::Reset);
            }
        });
        assert_eq!(found, [1]);
    }

    #[test]
    fn crafted_syns_to_many_targets_are_enough_where_no_answer_is_seen() {
        let of = |targets: u8, others: u8, reach: Reach| {
            found(rule(), |script| {
                (0..others).for_each(|host| _ = script.syn_to(1, u32::from(host), 80, Reach::Unknown));
                for host in 1..=targets {
                    script.at(u64::from(host) * 10).crafted(1, host, 23, reach);
                }
            })
        };
        assert_eq!(of(20, 0, Reach::Unknown), [1]);
        assert_eq!(of(12, 0, Reach::Unknown), NOBODY, "few");
        assert_eq!(of(20, 30, Reach::Unknown), NOBODY, "among those of a client");
        assert_eq!(of(40, 0, Reach::Open), NOBODY, "they are met");
        let checks = found(rule(), |script| {
            for second in 0..600 {
                (1..=12).for_each(|host| _ = script.at(second).crafted(1, host, 443, Reach::Unknown));
            }
        });
        assert_eq!(checks, NOBODY, "checks by half a handshake of a dozen addresses");
    }

    #[test]
    fn clients_that_look_for_one_thing_are_not() {
        let quiet: [(&str, Play); 8] = [
            ("a mail program that guesses", |script| {
                [25, 110, 143, 465, 587, 993, 995].iter().for_each(|port| _ = script.syn(1, 1, *port));
            }),
            ("Windows that opens a share", |script| {
                for second in 0..3 {
                    script.at(second * 20).syn(1, 1, 445).syn(1, 1, 139).syn(1, 1, 80);
                }
            }),
            ("a search for printers", |script| _ = script.syn(1, 1, 515).syn(1, 1, 631).syn(1, 1, 9100)),
            ("a port knock, and then SSH", |script| {
                [7_000, 8_100, 9_500, 1_234].iter().for_each(|port| _ = script.syn(1, 1, *port));
                script.open(1, 1, 22).completed(1);
            }),
            ("a client of six services while they restart", |script| {
                let services = [22, 25, 80, 3306, 5432, 6379];
                services.iter().for_each(|port| _ = script.ceased(*port));
                for second in 0..60 {
                    services.iter().for_each(|port| _ = script.at(second).syn(1, 1, *port));
                }
            }),
            ("peers of BitTorrent that are gone", |script| {
                [6_881, 51_413, 16_881, 21_000, 28_500, 31_000]
                    .iter()
                    .for_each(|port| _ = script.syn(1, 1, *port));
            }),
            ("a monitor of twelve ports of which two are closed", |script| {
                [21, 22, 25, 80, 110, 143, 443, 587, 993, 3306]
                    .iter()
                    .for_each(|port| _ = script.silent(1, 1, *port));
                script.syn(1, 1, 5432).syn(1, 1, 6379);
            }),
            ("traceroute by TCP", |script| (0..30).for_each(|hop| _ = script.at(hop).syn(1, 1, 443))),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }

    #[test]
    fn listeners_that_do_not_answer_are_failures_as_soon_as_no_answer_can_come() {
        for (reach, seconds, expected) in
            [(Reach::Open, 5, [1].as_slice()), (Reach::Unknown, 5, &[1]), (Reach::Open, 1, &NOBODY)]
        {
            let found = found(rule(), |script| {
                script.sees_answers();
                for port in 1..=12 {
                    script.probe_met(1, ProbeClass::Syn, 1, tcp(port * 7), reach);
                }
                script.at(seconds);
            });
            assert_eq!(found, expected, "{reach:?} after {seconds} s");
        }
        let answered = found(rule(), |script| {
            script.sees_answers();
            for port in 1..=12 {
                script.open(1, 1, port * 7).answer(1, Answer::SynAck);
            }
            script.at(5);
        });
        assert_eq!(answered, NOBODY);
    }

    #[test]
    fn clients_are_not() {
        let quiet: [(&str, Play); 7] = [
            ("a client that retries a closed service for an hour", |script| {
                for second in 0..3_600 {
                    script.at(second).syn(1, 1, 8_080);
                }
            }),
            ("checks by half a handshake of twelve services that go down", |script| {
                for second in 0..1_200u16 {
                    for port in (0..12).map(|port| 1_000 + port * 37) {
                        match second < 300 {
                            true => script.at(second.into()).half_open(1, 1, port),
                            false => script.at(second.into()).syn(1, 1, port),
                        };
                    }
                }
            }),
            ("a client of six services after a restart of the host", |script| {
                for second in 0..600 {
                    for port in [25, 80, 143, 443, 587, 993] {
                        script.at(second).syn(1, 1, port);
                    }
                }
            }),
            ("a client behind NAT that meets many services and misses some", |script| {
                for port in 1..=8 {
                    script.open(1, 1, port).syn(1, 1, 100 + port);
                }
            }),
            ("passive FTP behind a filter", |script| {
                for second in 0..120u16 {
                    script.at(second.into()).open(1, 1, 21).syn(1, 1, 50_000 + second * 7);
                }
            }),
            ("services of unknown fate", |script| {
                for port in 1..=100 {
                    script.probe_met(1, ProbeClass::Syn, 1, tcp(port), Reach::Unknown);
                }
            }),
            ("a health check of a pool of which half is down", |script| {
                for second in 0..60 {
                    for host in 1..=6 {
                        script.at(second).open(1, host, 80).syn(1, 10 + host, 80);
                    }
                }
            }),
        ];
        for (name, play) in quiet {
            assert_eq!(found(rule(), play), NOBODY, "{name}");
        }
    }
}
