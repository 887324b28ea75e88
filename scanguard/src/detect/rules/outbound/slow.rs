//! An actor tries one target after the other over a day, and most of them fail (nmap -T1, scanners that sleep).
//!
//! A monitor comes back to the same dead targets, a scan goes on to others.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    super::{Common, entry::Entry, seen_before::SeenBefore},
    tried::Tried,
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_slow",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Slow(settings)),
};

/// `[rules.outbound_slow]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services or addresses that failed.
    targets: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { common: Common { enabled: true, window: day, severity: Severity::Medium }, targets: 32 }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            targets: section.number("targets", default.targets, 2..=700),
        };
        section.finish();
        settings
    }
}

/// Least duration: the other rules find shorter scans.
const SLOW: Duration = Duration::from_secs(10 * 60);

/// The rule.
struct Slow(Settings);

impl Rule for Slow {
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

    fn soonest(&self) -> u32 {
        self.0.targets
    }

    fn patience(&self) -> Duration {
        // Four times the slowest pace that the rule finds.
        self.0.common.window / self.0.targets * 4
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let tried = Tried::of(&source.window(self.0.common.window));
        let wanted = [(tried.failures(), self.0.targets, "targets")];
        tried.shortfall(&wanted, tried.mostly_fails(), tried.is_shaped())
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let span = source.at.saturating_sub(window.first);
        let tried = Tried::of(&window);
        let least = u64::from(self.0.targets);
        if span < SLOW || tried.failures() < least || !tried.mostly_fails() {
            return None;
        }
        let again = SeenBefore::of(source, span);
        let is_wide = tried.hosts >= least && tried.is_wide() && !again.hosts;
        let is_deep = tried.services >= least && tried.is_deep() && !again.services;
        let is_block = tried.is_filled() && !(again.services && again.hosts);
        (is_wide || is_deep || is_block)
            .then_some(())
            .filter(|()| !tried.is_among_peers(source))
            .map(|()| tried.evidence(source, window, length))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Slow(Settings::default()))
    }

    #[test]
    fn a_target_every_twenty_minutes_is_found_for_sockets_and_crafters() {
        for actor in [PROGRAM, CRAFTER] {
            let found = found(rule(), |script| {
                for host in 0..60 {
                    script.at(u64::from(host) * 1_200).ask(actor, host, 22);
                }
            });
            assert_eq!(found, [actor]);
        }
    }

    #[test]
    fn a_monitor_that_comes_back_to_dead_targets_is_none() {
        let found = found(rule(), |script| {
            for hour in 0..20 {
                for host in 0..50 {
                    script.at(hour * 3_600 + u64::from(host) * 7).ask(PROGRAM, host, 9_100);
                }
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn peers_of_a_day_are_none() {
        let found = found(rule(), |script| {
            for peer in 0..2_000u32 {
                let port = 1_024 + u16::try_from(peer * 7_919 % 60_000).unwrap();
                script.at(u64::from(peer) * 30).ask(PROGRAM, peer, port);
            }
        });
        assert_eq!(found, NOBODY);
    }
}
