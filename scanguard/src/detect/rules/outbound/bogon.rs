//! An actor asks for many addresses that lead nowhere: private and other special-purpose ones, in networks that this host
//! does not know. Providers' reports of scans are full of them (peers of peer-to-peer networks that announce private
//! addresses).
//!
//! The kernel's program knows these networks, and counts the distinct addresses of each actor by one word of bits.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    super::{Common, entry::Entry, plural},
    tried::{Tried, proof},
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_bogon",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Bogon(settings)),
};

/// `[rules.outbound_bogon]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct special-purpose addresses.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common {
                enabled: true,
                window: Duration::from_secs(10 * 60),
                severity: Severity::Medium,
            },
            hosts: 16,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // They are counted by one word of bits.
            hosts: section.number("hosts", default.hosts, 2..=200),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct Bogon(Settings);

impl Rule for Bogon {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ScanningIpBlocks]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        self.0.hosts
    }

    fn covers(&self) -> &'static [&'static str] {
        &["outbound_sequential", "outbound_slow"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let special = window.activity.nowhere_hosts();
        let (tried, least) = (Tried::of(&window), u64::from(self.0.hosts));
        // Private networks may be routed here: then their services answer. It takes a moment to know that.
        if special.value < least || tried.failures() < least || !tried.mostly_fails() {
            return None;
        }
        let reason = format!(
            "{special} special-purpose {}, which lead nowhere from here, within {}",
            plural(special.value, "address"),
            Interval(length),
        );
        Some(Evidence { window, reason, certain: true, proof: proof(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Bogon(Settings::default()))
    }

    #[test]
    fn private_addresses_that_lead_nowhere_are_found_and_those_that_answer_are_not() {
        for answer in [false, true] {
            let found = found(rule(), |script| {
                for host in 0..60 {
                    script.at(u64::from(host) * 5).ask_at(PROGRAM, private(host), 4_001);
                    if answer {
                        script.answered();
                    }
                }
            });
            assert_eq!(found == [PROGRAM], !answer, "answer: {answer}");
        }
    }

    #[test]
    fn addresses_of_networks_that_are_known_here_and_ordinary_ones_are_not() {
        for near in [true, false] {
            let found = found(rule(), |script| {
                if near {
                    script.near("10.0.0.0/8");
                }
                for host in 0..60 {
                    let address = if near { private(host) } else { public(host) };
                    script.at(u64::from(host) * 5).ask_at(PROGRAM, address, 4_001);
                }
            });
            assert_eq!(found, NOBODY, "near: {near}");
        }
    }

    #[test]
    fn a_scan_that_is_over_within_a_poll_is_found_among_whatever_else_is_asked_for() {
        for others in [0, 300] {
            let found = found(rule(), |script| {
                for host in 0..30 {
                    script.ask_at(PROGRAM, private(host), 22);
                    (0..others / 30).for_each(|other| _ = script.ask(PROGRAM, host * 10 + other, 443));
                }
            });
            assert_eq!(found, [PROGRAM], "{others} others");
        }
    }

    #[test]
    fn fewer_of_them_are_not_found_however_often_they_are_asked() {
        let found = found(rule(), |script| {
            for second in 0..200 {
                script.at(second).ask_at(PROGRAM, private(u32::try_from(second).unwrap() % 8), 22);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn addresses_that_may_still_answer_make_none() {
        let found = found(rule(), |script| {
            (0..60).for_each(|host| _ = script.ask_at(PROGRAM, private(host), 443));
            script.at(1);
            // They answer all, a moment later.
            (0..60).for_each(|host| _ = script.ask_at(PROGRAM, private(host), 443).answered());
        });
        assert_eq!(found, NOBODY);
    }
}
