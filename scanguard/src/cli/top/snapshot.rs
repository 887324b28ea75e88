//! The data that `top` requests for the screen, the agent's answer, and the orders that `top` can send.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    control::listing::{Findings, Sort, Sources, Status},
    respond::report::{Bans, Explanation},
};

/// The lists.
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

/// The data that the screen shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    /// The source whose detail is open.
    pub(super) detail: Option<IpAddr>,
}

/// The agent's answer. It always has the sources, because the totals come with them.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    pub(super) sources: Sources,
    pub(super) findings: Option<Findings>,
    pub(super) bans: Option<Bans>,
    pub(super) detail: Option<Explanation>,
}

/// An order that is sent after confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Ban for a time; `None` means until it is removed by hand.
    Ban(IpNet, Option<Duration>),
    /// End the ban.
    Unban(IpNet),
    /// Never ban.
    Allow(IpNet),
}
