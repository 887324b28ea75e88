//! What is asked of the agent for the screen, what it says, and the orders that it can be given.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    control::listing::{Findings, Sort, Sources, Status},
    respond::report::{Bans, Explanation},
};

/// What is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tab {
    Sources,
    Findings,
    Bans,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Sources, Self::Findings, Self::Bans];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Sources => "Sources",
            Self::Findings => "Findings",
            Self::Bans => "Bans",
        }
    }

    pub(super) fn beside(self, steps: usize) -> Self {
        Self::ALL[(self as usize + steps) % Self::ALL.len()]
    }
}

/// What is to be on the screen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    /// Whose detail is open.
    pub(super) detail: Option<IpAddr>,
}

/// What the agent said. The sources always: with them come the totals.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    pub(super) sources: Sources,
    pub(super) findings: Option<Findings>,
    pub(super) bans: Option<Bans>,
    pub(super) detail: Option<Explanation>,
}

/// An order that is given when it has been confirmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Ban, for a time or until it is taken back.
    Ban(IpNet, Option<Duration>),
    /// End the ban.
    Unban(IpNet),
    /// Never ban.
    Allow(IpNet),
}
