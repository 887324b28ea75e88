//! The cases of `cargo xtask matrix`: what must be found, and what must not. One table each.

mod content;
mod greetings;
mod honest;
mod outbound;
pub mod outcome;
pub mod play;
pub mod quiet;
pub mod scans;
mod servers;

use std::time::Duration;

use anyhow::Result;

use crate::fixtures::{lab::Namespace, stage::Stage};

/// The expected result of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// At least one finding.
    Found,
    /// None at all.
    Quiet,
    /// In `enforce`, the client is served to its end, and no finding is above `info`.
    Spared,
}

/// A finding that a scan must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    /// The rule.
    pub rule: &'static str,
    /// The technique of MITRE ATT&CK.
    pub technique: &'static str,
}

/// The traffic of a case.
#[derive(Clone, Copy)]
pub enum Act {
    /// The scanner runs the command that is the case's name, for which [`Stage::words`] fills in.
    Command,
    /// As above, and the tool's exit status means nothing (hping3 fails when nobody answers).
    CommandThatMayFail,
    /// The watched host itself runs the command, and the tool's exit status means nothing.
    CommandOfHost,
    /// Something longer.
    Script(fn(&mut Stage<'_>) -> Result<()>),
}

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    /// The command, or what it is in words.
    pub name: &'static str,
    /// Under which heading it stands.
    pub group: &'static str,
    /// The public report that an honest client comes from: project and number.
    pub report: &'static str,
    /// Why an honest client is accused all the same; nothing if it is not.
    pub limit: &'static str,
    /// The address of a scanner beside an honest client. It is rightly accused, so its findings do not matter.
    pub beside: &'static str,
    /// The expected result.
    pub expect: Expect,
    /// All findings that a scan must have; where there is none, any finding will do.
    pub findings: &'static [Expected],
    /// Settings of the agent beyond the defaults; [`Stage::fill`] fills in.
    pub config: &'static str,
    /// Takes minutes: only where that is asked for.
    pub slow: bool,
    /// Short, and needs no tools but those of the tests: is one of them, too.
    pub tested: bool,
    /// Done before the sensor is started: servers and networks.
    pub prepare: fn(&mut Stage<'_>) -> Result<()>,
    /// Done while the sensor watches.
    pub act: Act,
    /// Packets that the sensor sees at least: with fewer the traffic did not happen.
    pub packets: u32,
}

impl Case {
    /// Takes minutes.
    #[must_use]
    pub const fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    /// Is a test, too.
    #[must_use]
    pub const fn tested(self) -> Self {
        Self { tested: true, ..self }
    }

    /// Something is set up before.
    #[must_use]
    pub const fn after(self, prepare: fn(&mut Stage<'_>) -> Result<()>) -> Self {
        Self { prepare, ..self }
    }

    /// Must have all of these findings.
    #[must_use]
    pub const fn with_findings(self, findings: &'static [Expected]) -> Self {
        Self { findings, ..self }
    }

    /// Has a scanner beside it.
    #[must_use]
    pub const fn beside(self, beside: &'static str) -> Self {
        Self { beside, ..self }
    }

    /// Is accused all the same, for this reason.
    #[must_use]
    pub const fn limited(self, limit: &'static str) -> Self {
        Self { limit, ..self }
    }

    /// The tool's exit status means nothing.
    #[must_use]
    pub const fn may_fail(self) -> Self {
        Self { act: Act::CommandThatMayFail, ..self }
    }

    /// Sends so many packets at least.
    #[must_use]
    pub const fn sends(self, packets: u32) -> Self {
        Self { packets, ..self }
    }

    /// With such a configuration.
    #[must_use]
    pub const fn with(self, config: &'static str) -> Self {
        Self { config, ..self }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// A tool could not be started, failed, or took too long.
    pub fn act(&self, stage: &mut Stage<'_>) -> Result<()> {
        let limit = Duration::from_secs(if self.slow { 600 } else { 120 });
        match self.act {
            Act::Command => stage.run(&stage.lab.scanner, self.name, limit),
            Act::CommandThatMayFail => may_fail(stage, &stage.lab.scanner, self.name, limit),
            Act::CommandOfHost => may_fail(stage, &stage.lab.victim, self.name, limit),
            Act::Script(script) => script(stage),
        }
    }
}

/// Runs a command that may fail. Too long is wrong for any tool.
fn may_fail(stage: &Stage<'_>, host: &Namespace, command: &str, limit: Duration) -> Result<()> {
    let started = std::time::Instant::now();
    match stage.run(host, command, limit) {
        Err(error) if started.elapsed() >= limit => Err(error),
        _ => Ok(()),
    }
}

fn nothing(_: &mut Stage<'_>) -> Result<()> {
    Ok(())
}

/// All cases, scans first.
pub fn all() -> impl Iterator<Item = Case> {
    scans::all()
        .chain(content::CASES.iter().copied())
        .chain(greetings::CASES.iter().copied())
        .chain(outbound::CASES.iter().copied())
        .chain(outbound::daemons::CASES.iter().copied())
        .chain(quiet::all())
        .chain(honest::all())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{}", case.name);
        }
    }

    #[test]
    fn cases_that_are_tests_need_the_tools_of_the_tests_and_no_minutes() {
        for case in all().filter(|case| case.tested) {
            assert!(!case.slow, "{}", case.name);
            let tool = case.name.split(' ').next().unwrap();
            let script = matches!(case.act, Act::Script(_));
            assert!(script || ["nmap", "hping3"].contains(&tool), "{}", case.name);
        }
    }

    #[test]
    fn honest_clients_come_from_reports_and_others_do_not() {
        for case in all() {
            let Some((project, number)) = case.report.split_once('#') else {
                assert!(case.report.is_empty() && case.expect != Expect::Spared, "{}", case.name);
                continue;
            };
            assert!(case.expect == Expect::Spared && project.split('/').count() == 2, "{}", case.name);
            assert!(number.parse::<u32>().is_ok(), "{}", case.report);
        }
    }

    #[test]
    fn groups_stand_together() {
        let mut groups: Vec<_> = all().map(|case| case.group).collect();
        groups.dedup();
        let distinct: BTreeSet<_> = groups.iter().collect();
        assert_eq!(distinct.len(), groups.len(), "{groups:?}");
    }
}
