//! An actor is answered by many services where one logs in, at addresses that are new to it: a worm that spreads, or
//! somebody who tries passwords.
//!
//! The first run of a backup or of a tool that configures hosts looks the same. So the rule waits until it was learned who
//! uses the network here, and its findings are of severity `low`.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{
    super::{Common, entry::Entry, plural},
    tried::proof,
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_logins",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Logins(settings)),
};

/// `[rules.outbound_logins]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct new addresses that answered.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(10 * 60), severity: Severity::Low },
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
struct Logins(Settings);

impl Rule for Logins {
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
        self.0.hosts
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        // Somebody who logs in at many hosts every day has done so while that was learned.
        if !source.known.is_some_and(|known| known.news.learned) {
            return None;
        }
        let length = self.0.common.window;
        let window = source.window(length);
        let hosts = window.activity.login_hosts();
        if hosts.value < u64::from(self.0.hosts) {
            return None;
        }
        let reason = format!(
            "{hosts} {} that are new to it answered at services where one logs in, within {}",
            plural(hosts.value, "address"),
            Interval(length),
        );
        Some(Evidence { window, reason, certain: false, proof: proof(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Logins(Settings::default()))
    }

    fn logs_in(learned: bool, port: u16) -> Vec<scanguard_common::actor::Key> {
        found(rule(), |script| {
            script.learned(learned);
            for host in 0..40 {
                script.at(u64::from(host)).ask(PROGRAM, host, port).answered();
            }
        })
    }

    #[test]
    fn many_new_hosts_that_answer_are_found_once_it_is_known_who_does_that_every_day() {
        assert_eq!(logs_in(true, 22), [PROGRAM]);
        assert_eq!(logs_in(true, 3_306), [PROGRAM]);
        assert_eq!(logs_in(false, 22), NOBODY);
        assert_eq!(logs_in(true, 443), NOBODY);
    }

    #[test]
    fn many_of_them_are_found_among_whatever_else_answers_and_few_are_not() {
        for (logins, others, expected) in [(40, 600, true), (40, 0, true), (6, 600, false), (0, 600, false)] {
            let found = found(rule(), |script| {
                script.learned(true);
                (0..logins).for_each(|host| _ = script.ask(PROGRAM, host, 22).answered());
                (0..others).for_each(|host| _ = script.ask(PROGRAM, 1_000 + host, 443).answered());
            });
            assert_eq!(found == [PROGRAM], expected, "{logins} logins, {others} others");
        }
    }
}
