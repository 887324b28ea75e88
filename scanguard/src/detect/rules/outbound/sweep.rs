//! An actor tries few services of many addresses, and most of them fail (zmap, masscan, worms, `for` with nc).
//!
//! What tells it from a crawler, a monitor or a mail server with dead targets is that they meet most of what they ask for;
//! what tells it from a client of peers is that it asks for few ports.

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
    name: "outbound_sweep",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Sweep(settings)),
};

/// `[rules.outbound_sweep]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct addresses that failed.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::High },
            hosts: 32,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// The rule.
struct Sweep(Settings);

impl Rule for Sweep {
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
        &["outbound_bogon", "outbound_sequential", "outbound_slow", "outbound_logins"]
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let tried = Tried::of(&source.window(self.0.common.window));
        let wanted = [(tried.hosts, self.0.hosts, "addresses")];
        knows_fates(source)
            .then(|| tried.shortfall(&wanted, tried.mostly_fails_or_knocks(), tried.is_wide()))?
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let tried = Tried::of(&window);
        let is_sweep =
            tried.hosts >= u64::from(self.0.hosts) && tried.is_wide() && tried.mostly_fails_or_knocks();
        (knows_fates(source) && is_sweep && !tried.is_among_peers(source))
            .then(|| tried.evidence(source, window, length))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Sweep(Settings::default()))
    }

    #[test]
    fn one_port_of_many_addresses_is_a_sweep_whether_it_is_refused_or_not_answered() {
        for refused in [false, true] {
            let found = found(rule(), |script| {
                for host in 0..40 {
                    script.ask(PROGRAM, host, 22);
                    if refused {
                        script.refused();
                    }
                }
            });
            assert_eq!(found, [PROGRAM], "refused: {refused}");
        }
    }

    #[test]
    fn a_sweep_in_which_some_answer_is_one_and_one_in_which_most_do_is_none() {
        for (answers, expected) in [(10, true), (30, false), (60, false)] {
            let found = found(rule(), |script| {
                for host in 0..40 + answers {
                    script.ask(PROGRAM, host, 443);
                    if host >= 40 {
                        script.answered();
                    }
                }
            });
            assert_eq!(found == [PROGRAM], expected, "{answers} answer");
        }
    }

    #[test]
    fn the_reason_says_how_many_where_and_what_came_of_it() {
        let mut script = OutScript::new(vec![rule()]);
        for host in 0..40 {
            script.ask(PROGRAM, host, 22);
            if host < 3 {
                script.answered();
            }
        }
        let finding = script.events().remove(0).finding;
        assert_eq!(finding.reason, "40 SYNs to 40 addresses, port 22, within 1m; 37 failed");
        assert_eq!(finding.techniques, [Technique::ScanningIpBlocks]);
    }

    #[test]
    fn the_reason_has_the_addresses_too_that_may_still_answer() {
        let mut script = OutScript::new(vec![rule()]);
        (0..38).for_each(|host| _ = script.ask(PROGRAM, host, 22));
        script.at(3);
        (38..190).for_each(|host| _ = script.ask(PROGRAM, host, 22));
        let first = script.events().remove(0).finding;
        let reason = "190 SYNs to 190 addresses, port 22, within 1m; 38 failed, 152 have no answer yet";
        assert_eq!(first.reason, reason);
        assert!(first.hosts().value.abs_diff(190) < 20, "{:?}", first.hosts());
    }

    #[test]
    fn addresses_of_several_ports_are_estimated_and_those_that_may_still_answer_are_among_them() {
        let mut script = OutScript::new(vec![rule()]);
        (0..80).for_each(|host| _ = script.ask(PROGRAM, host / 2, if host % 2 == 0 { 22 } else { 23 }));
        script.at(3);
        (80..400).for_each(|host| _ = script.ask(PROGRAM, host / 2, if host % 2 == 0 { 22 } else { 23 }));
        let reason = script.events().remove(0).finding.reason;
        let words: Vec<_> = reason.split(' ').collect();
        let hosts: u64 = words[4].parse().unwrap();
        assert_eq!([words[0], words[3], words[6]], ["400", "about", "2"], "{reason}");
        assert!(
            hosts.abs_diff(200) <= 20 && reason.ends_with("; 80 failed, 320 have no answer yet"),
            "{reason}"
        );
    }

    #[test]
    fn a_sweep_by_somebody_who_has_met_many_is_found_like_any_other() {
        let found = found(rule(), |script| {
            for host in 0..800 {
                script.at(u64::from(host / 10)).ask(PROGRAM, host, 443).answered();
            }
            // The same addresses, where something else is not there.
            for host in 0..36 {
                script.at(200).ask(PROGRAM, host, 22);
            }
        });
        assert_eq!(found, [PROGRAM]);
    }

    #[test]
    fn fewer_addresses_slower_ones_and_a_port_for_each_are_none() {
        for (hosts, pause, port) in [(20, 0, 0), (200, 10, 0), (200, 0, 1)] {
            let found = found(rule(), |script| {
                for host in 0..hosts {
                    script.at(u64::from(host) * pause).ask(
                        PROGRAM,
                        host,
                        1_000 + u16::try_from(host).unwrap() * port,
                    );
                }
            });
            assert_eq!(found, NOBODY, "{hosts} hosts, a pause of {pause}, ports {port}");
        }
    }
}
