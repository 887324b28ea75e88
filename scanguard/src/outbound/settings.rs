//! `[outbound]` of the configuration.

use std::time::Duration;

use glob::Pattern;
use serde::{Deserialize, Serialize};

use super::{Actor, arguments::Arguments};
use crate::settings::{Interval, Section};

/// How many entries each list may have.
const MAX_ENTRIES: usize = 256;
/// The longest name of an interface (`IFNAMSIZ` without its end).
const MAX_NAME: usize = 15;

/// What is done about an actor that scans.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Nothing: it is told.
    #[default]
    Observe,
    /// Its attempts are counted that would be refused.
    DryRun,
    /// Its attempts are refused for a while.
    Block,
}

/// Whose processes are looked at.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespaces {
    /// All of this host's, if the agent is in the network namespace of its first process; else those of its own.
    #[default]
    Auto,
    /// Those in the agent's network namespace.
    Own,
    /// Those in all network namespaces, as those of containers.
    All,
}

/// `[outbound]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether what leaves is looked at.
    pub enabled: bool,
    /// Whose processes.
    pub namespaces: Namespaces,
    /// Interfaces with hosts behind this one, which are actors by their addresses.
    pub inner: Vec<String>,
    /// Which arguments of processes are told.
    pub arguments: Arguments,
    /// What is done about an actor that scans.
    pub response: Response,
    /// How long it is learned who uses the network, before somebody new is told.
    pub learning: Duration,
    /// Actors of whom nothing is told.
    pub allow: Allow,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            namespaces: Namespaces::default(),
            inner: Vec::new(),
            arguments: Arguments::default(),
            response: Response::default(),
            learning: Duration::from_secs(14 * 24 * 60 * 60),
            allow: Allow::default(),
        }
    }
}

/// `[outbound.allow]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// Units, by name or pattern.
    pub units: Vec<Pattern>,
    /// Executables, by path or pattern.
    pub executables: Vec<Pattern>,
}

impl Allow {
    /// Whether nothing is told of an actor: its unit is in the list, or its executable. A control group as a whole is
    /// allowed by its unit only.
    pub fn has(&self, actor: &Actor) -> bool {
        let Some(process) = &actor.process else {
            return false;
        };
        let of_unit =
            process.unit.as_ref().is_some_and(|unit| self.units.iter().any(|one| one.matches(unit)));
        let is_program = actor.key.kind != scanguard_common::actor::Kind::Group;
        of_unit || is_program && self.executables.iter().any(|one| one.matches(&process.path))
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let day = Duration::from_secs(24 * 60 * 60);
        let settings = Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            namespaces: section.value("namespaces", default.namespaces, |_| Ok(())),
            inner: section.list("inner", MAX_ENTRIES, default.inner, interface),
            arguments: section.value("arguments", default.arguments, |_| Ok(())),
            response: section.value("response", default.response, |_| Ok(())),
            learning: section.interval(
                "learning",
                default.learning,
                Interval::between(Duration::ZERO, 365 * day),
            ),
            allow: allow(section.section("allow")),
        };
        section.finish();
        settings
    }
}

fn allow(mut section: Section<'_, '_>) -> Allow {
    let allow = Allow {
        units: section.list("units", MAX_ENTRIES, Vec::new(), pattern),
        executables: section.list("executables", MAX_ENTRIES, Vec::new(), |text| match pattern(text) {
            Ok(pattern) if text.starts_with(['/', '*']) => Ok(pattern),
            Ok(_) => Err(format!("\"{text}\" is no absolute path such as \"/usr/bin/prometheus\"")),
            Err(error) => Err(error),
        }),
    };
    section.finish();
    allow
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| format!("\"{text}\" is no pattern: {error}"))
}

/// The name of an interface.
fn interface(text: &str) -> Result<String, String> {
    let is_name = (1..=MAX_NAME).contains(&text.len()) && !text.contains(['/', ' ', ':']);
    if is_name { Ok(text.to_owned()) } else { Err(format!("\"{text}\" is no name of an interface")) }
}

#[cfg(test)]
mod tests {
    use scanguard_common::actor::Kind;

    use super::*;
    use crate::{config::Config, outbound::identity::testing::Draft};

    #[test]
    fn every_wrong_entry_is_said_with_its_line() {
        let text = "\
[outbound]
inner = [\"br0\", \"a name that is too long\"]
arguments = \"some\"
response = \"kill\"
learning = \"400d\"
[outbound.allow]
units = [\"kubelet.service\", \"a***\"]
executables = [\"prometheus\", \"/usr/bin/prom*\"]
pids = []
";
        let problems = Config::parse(text).expect_err("it is wrong");
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 7, 8, 9], "{problems:#?}");
    }

    #[test]
    fn actors_are_allowed_by_unit_and_executable_and_groups_by_unit_only() {
        let allow = |text: &str| Config::parse(text).unwrap().outbound.allow;
        let units = allow("[outbound.allow]\nunits = [\"web*.service\"]\n");
        let programs = allow("[outbound.allow]\nexecutables = [\"/usr/bin/py*\"]\n");
        let draft = Draft::new("/usr/bin/python3", "/system.slice/web.service");
        for (allow, kind, expected) in [
            (&units, Kind::Program, true),
            (&units, Kind::Group, true),
            (&programs, Kind::Crafter, true),
            (&programs, Kind::Group, false),
            (&Allow::default(), Kind::Program, false),
        ] {
            assert_eq!(allow.has(&draft.actor(kind)), expected, "{kind:?}");
        }
        assert!(!units.has(&Draft::new("/usr/bin/python3", "/system.slice/db.service").actor(Kind::Program)));
    }
}
