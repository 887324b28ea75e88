//! The rows of `cargo xtask adversary`: attacks on the sensor and on those whom it serves, and what must hold against
//! each. A table for each kind of attacker.

pub mod bridge;
pub mod client;
mod control;
mod evader;
mod exhauster;
pub mod forge;
mod forger;
mod others;
pub mod outcome;
pub mod scene;

use anyhow::Result;

use self::{
    forge::Forger,
    outcome::Verdict,
    scene::{Scene, Target},
};

/// Under which heading a row stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// No attack: what is really done is found and answered, so that the suite is not passed by an agent that does nothing.
    Control,
    /// Writes other people's addresses into packets, so that they are banned.
    Forger,
    /// Scans so that nobody notices.
    Evader,
    /// Uses up what the agent has, so that others are not found or bans are lost.
    Exhauster,
    /// Has another place: within the machine, in a visitor's browser, between two agents.
    Other,
}

impl Role {
    /// In the order of the page.
    pub const ALL: [Self; 5] = [Self::Control, Self::Forger, Self::Evader, Self::Exhauster, Self::Other];

    /// The name in those of tests.
    pub fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Forger => "forger",
            Self::Evader => "evader",
            Self::Exhauster => "exhauster",
            Self::Other => "other",
        }
    }
}

/// From where an attack can be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Position {
    /// From anywhere, by somebody who can write any source address and sees no answers.
    OffPath,
    /// By somebody on the way between client and server, who sees their packets.
    OnPath,
    /// From the same link: by frames that no router would pass on.
    SameLink,
    /// From anywhere, by a host that uses its own address and sees the answers.
    OwnAddress,
    /// By a web page that a client of the server visits.
    WebPage,
    /// By somebody without rights on the server.
    LocalUser,
}

impl Position {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::OffPath => "off-path",
            Self::OnPath => "on the path",
            Self::SameLink => "same link",
            Self::OwnAddress => "own address",
            Self::WebPage => "web page",
            Self::LocalUser => "local user",
        }
    }
}

/// Whether an attack is withstood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// It is.
    Holds,
    /// It is not, and why. A row that holds although it is said to be a limit is a failure, too.
    Limit(&'static str),
}

/// The way in which a row is played.
#[derive(Clone, Copy)]
pub enum Play {
    /// The same is forged in the name of six clients: before their first connection, while one is open, and after several, over
    /// IPv4 and over IPv6. Each must be served throughout, and none may be banned.
    InTheirNames(fn(&Forger<'_>, &Target) -> Result<()>),
    /// Something else.
    Script(fn(&mut Scene<'_>) -> Result<Verdict>),
}

/// An attack.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name, in words.
    pub name: &'static str,
    /// The attacker.
    pub role: Role,
    /// From where.
    pub position: Position,
    /// The promise that must hold.
    pub must: &'static str,
    /// Whether it does.
    pub expect: Expect,
    /// Settings of `[sensor]` and of `[response]` beyond the defaults, and tables after them.
    pub config: Config,
    /// Takes minutes: only where that is asked for.
    pub slow: bool,
    /// The course of events.
    pub play: Play,
}

/// Settings of a row beyond the defaults.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// Lines of `[response]`.
    pub response: &'static str,
    /// Whole tables.
    pub tables: &'static str,
}

/// Nothing beyond the defaults.
const DEFAULT: Config = Config { response: "", tables: "" };

impl Row {
    const fn script(
        role: Role,
        name: &'static str,
        must: &'static str,
        play: fn(&mut Scene<'_>) -> Result<Verdict>,
    ) -> Self {
        Self {
            name,
            role,
            position: Position::OwnAddress,
            must,
            expect: Expect::Holds,
            config: DEFAULT,
            slow: false,
            play: Play::Script(play),
        }
    }

    const fn from(self, position: Position) -> Self {
        Self { position, ..self }
    }

    const fn limit(self, why: &'static str) -> Self {
        Self { expect: Expect::Limit(why), ..self }
    }

    const fn with(self, response: &'static str, tables: &'static str) -> Self {
        Self { config: Config { response, tables }, ..self }
    }

    const fn slow(self) -> Self {
        Self { slow: true, ..self }
    }
}

/// All rows, by role.
pub fn all() -> impl Iterator<Item = Row> {
    [control::ROWS, forger::ROWS, evader::ROWS, exhauster::ROWS, others::ROWS].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_go_into_a_table() {
        let mut names = BTreeSet::new();
        for row in all() {
            assert!(names.insert(row.name), "{}", row.name);
            assert!(!row.name.contains('|') && !row.must.contains('|'), "{}", row.name);
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_the_page() {
        let place = |role| Role::ALL.iter().position(|one| *one == role);
        let places: Vec<_> = all().map(|row| place(row.role)).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn a_limit_has_a_reason() {
        for row in all() {
            match row.expect {
                Expect::Holds => {}
                Expect::Limit(why) => assert!(why.len() > 20 && !why.contains('|'), "{}", row.name),
            }
        }
    }
}
