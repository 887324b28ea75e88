//! An actor fails far more often than it succeeds, in the shape of a scan: `sequential_test` for what leaves.
//!
//! The threshold is that of a sequential test with the numbers of `sequential_test` (a client meets 80 % of its services,
//! a scanner 20 %, one false accusation in 100,000): nine more failures than successes.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    super::{Common, entry::Entry},
    tried::{Tried, knows_fates},
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_sequential",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Sequential(settings)),
};

/// `[rules.outbound_sequential]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: so many more failures than successes.
    failures: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(10 * 60), severity: Severity::Low },
            failures: 9,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            failures: section.number("failures", default.failures, 3..=700),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct Sequential(Settings);

impl Rule for Sequential {
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
        self.0.failures
    }

    fn covers(&self) -> &'static [&'static str] {
        &["outbound_slow"]
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let tried = Tried::of(&source.window(self.0.common.window));
        let least = u32::try_from(tried.successes()).unwrap_or(u32::MAX).saturating_add(self.0.failures);
        let wanted = [(tried.failures(), least, "targets")];
        knows_fates(source).then(|| tried.shortfall(&wanted, tried.mostly_fails(), tried.is_shaped()))?
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let tried = Tried::of(&window);
        let is_beyond = tried.failures() >= tried.successes() + u64::from(self.0.failures);
        let is_scan = is_beyond && tried.is_shaped() && tried.mostly_fails();
        (knows_fates(source) && is_scan && !tried.is_among_peers(source))
            .then(|| tried.evidence(source, window, length))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Sequential(Settings::default()))
    }

    #[test]
    fn nine_more_failures_than_successes_are_enough() {
        for (failures, successes, expected) in [(9, 0, true), (8, 0, false), (12, 3, true), (11, 3, false)] {
            let found = found(rule(), |script| {
                for host in 0..successes {
                    script.ask(PROGRAM, 1_000 + host, 22).answered();
                }
                for host in 0..failures {
                    script.at(u64::from(host) * 20).ask(PROGRAM, host, 22).refused();
                }
            });
            assert_eq!(found == [PROGRAM], expected, "{failures} failures, {successes} successes");
        }
    }

    #[test]
    fn twelve_peers_at_a_port_each_are_none() {
        let found = found(rule(), |script| {
            for peer in 0..12u16 {
                script.ask(PROGRAM, peer.into(), 6_881 + peer * 997);
            }
        });
        assert_eq!(found, NOBODY);
    }
}
