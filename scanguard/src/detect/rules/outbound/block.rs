//! An actor tries many services of many addresses, and much of the block that they make (masscan -p1-1000 10.0.0.0/24).

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
    name: "outbound_block",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Block(settings)),
};

/// `[rules.outbound_block]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services that failed. Both must be reached.
    services: u32,
    /// Threshold: distinct addresses that failed.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::High },
            services: 10,
            hosts: 6,
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

/// The rule.
struct Block(Settings);

impl Rule for Block {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ScanningIpBlocks, Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        self.0.services.max(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &[
            "outbound_vertical",
            "outbound_sweep",
            "outbound_bogon",
            "outbound_sequential",
            "outbound_slow",
            "outbound_logins",
        ]
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let tried = Tried::of(&source.window(self.0.common.window));
        let wanted =
            [(tried.services, self.0.services, "services"), (tried.hosts, self.0.hosts, "addresses")];
        knows_fates(source)
            .then(|| tried.shortfall(&wanted, tried.mostly_fails_or_knocks(), tried.is_filled()))?
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let tried = Tried::of(&window);
        let is_block = tried.services >= u64::from(self.0.services)
            && tried.hosts >= u64::from(self.0.hosts)
            && tried.is_filled()
            && tried.mostly_fails_or_knocks();
        (knows_fates(source) && is_block).then(|| tried.evidence(source, window, length))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Block(Settings::default()))
    }

    #[test]
    fn peers_that_may_still_answer_fill_no_block() {
        let found = found(rule(), |script| {
            for peer in 0..20u16 {
                script.ask(PROGRAM, peer.into(), 6_881 + peer * 97).refused();
            }
            for peer in 20..200u16 {
                script.at(2).ask(PROGRAM, peer.into(), 6_881 + peer * 97);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn a_block_is_found_and_a_diagonal_is_not() {
        let block = found(rule(), |script| {
            for (host, port) in (0..8).flat_map(|host| (1..=16).map(move |port| (host, port))) {
                script.ask(PROGRAM, host, port);
            }
        });
        assert_eq!(block, [PROGRAM]);
        let diagonal = found(rule(), |script| {
            for peer in 0..300u16 {
                script.ask(PROGRAM, peer.into(), 6_881 + peer * 37 % 20_000);
            }
        });
        assert_eq!(diagonal, NOBODY);
    }

    #[test]
    fn a_line_is_none() {
        for (hosts, ports) in [(1, 100), (100, 2), (3, 100)] {
            let found = found(rule(), |script| {
                for (host, port) in (0..hosts).flat_map(|host| (1..=ports).map(move |port| (host, port))) {
                    script.ask(PROGRAM, host, port);
                }
            });
            assert_eq!(found, NOBODY, "{hosts} x {ports}");
        }
    }
}
