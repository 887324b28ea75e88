//! Slow scan: closed services or dark addresses, one at a time, over a day (nmap -T0, -T1, scan farms that come back).
//!
//! The slowest scan that the rule finds: the history covers at least 60 % of a window. With a threshold of 16 in 24
//! hours, the rule always finds a scan with a new target every 54 minutes, and at best one with a new target every 90
//! minutes.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, Syn, Udp, UdpEmpty};

use super::{Common, about, entry::Entry, plural, probes_in_words};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, ATTEMPTS, DATAGRAMS},
    },
    observe::sampled::Kind,
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "slow_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(SlowScan(settings)),
};

/// `[rules.slow_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services.
    services: u32,
    /// Threshold: distinct addresses where the service is closed, or that are dark.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            common: Common { enabled: true, window: day, severity: Severity::Medium },
            services: 16,
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

/// Least failures per success: over a day a client of many services fails on some.
const FAILURES_PER_SUCCESS: u64 = 2;

/// Least duration: the other rules find shorter scans.
const SLOW: Duration = Duration::from_secs(10 * 60);

/// The rule.
struct SlowScan(Settings);

impl Rule for SlowScan {
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
        &[Syn, Udp, UdpEmpty]
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn patience(&self) -> Duration {
        // Four times the slowest pace that the rule finds.
        self.0.common.window / self.0.services.min(self.0.hosts) * 4
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        if source.at.saturating_sub(window.first) < SLOW {
            return None;
        }
        let activity = &window.activity;
        let assigned = Kind::SERVICES;
        let services = missed::services(activity, ATTEMPTS, assigned).proven
            + missed::services(activity, DATAGRAMS, &[Kind::UdpFixed]).proven;
        let hosts = missed::hosts(activity, ATTEMPTS, assigned)
            .proven
            .max(missed::hosts(activity, DATAGRAMS, &[Kind::UdpFixed]).proven);
        let many = services >= u64::from(self.0.services) || hosts >= u64::from(self.0.hosts);
        if !many || services.max(hosts) < missed::successes(activity) * FAILURES_PER_SUCCESS {
            return None;
        }
        let reason = format!(
            "{} to {} closed {} of {} {} within {}",
            probes_in_words(&activity.counts.only(self.classes())),
            about(services),
            plural(services, "service"),
            about(hosts),
            plural(hosts, "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{
        findings::EventKind,
        rules::testing::{NOBODY, Script, found},
    };

    const MINUTE: u64 = 60;

    fn rule() -> Box<dyn Rule> {
        Box::new(SlowScan(Settings::default()))
    }

    fn one_port_every(minutes: u64) -> Vec<u8> {
        found(rule(), |script| {
            for step in 0..24 * 60 / minutes {
                script.at(step * minutes * MINUTE).syn(1, 1, u16::try_from(step).unwrap() + 1);
            }
        })
    }

    #[test]
    fn a_port_every_fifty_four_minutes_is_found_within_a_day() {
        for minutes in [1, 5, 15, 54] {
            assert_eq!(one_port_every(minutes), [1], "every {minutes} minutes");
        }
        assert_eq!(one_port_every(120), NOBODY);
    }

    #[test]
    fn it_is_one_finding_as_long_as_it_goes_on() {
        let mut script = Script::new(rule(), crate::detect::settings::Settings::default());
        for step in 0..96u16 {
            script.at(u64::from(step) * 15 * MINUTE).syn(1, 1, step + 1);
        }
        script.at(48 * 60 * MINUTE);
        let kinds: Vec<_> = script.events().iter().map(|event| event.kind).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&EventKind::Opened), Some(&EventKind::Closed)));
        assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Opened).count(), 1);
    }

    #[test]
    fn clients_of_a_day_are_not() {
        let retrying = found(rule(), |script| {
            for minute in 0..24 * 60 {
                script.at(minute * MINUTE).syn(1, 1, 8_080).open(1, 1, 443);
            }
        });
        assert_eq!(retrying, NOBODY);
        let busy = found(rule(), |script| {
            for hour in 0..24u16 {
                script.at(u64::from(hour) * 60 * MINUTE);
                for port in 1..=20 {
                    script.open(1, 1, port);
                }
                script.syn(1, 1, 100 + hour);
            }
        });
        assert_eq!(busy, NOBODY);
    }
}
