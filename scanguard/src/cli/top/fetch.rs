//! What the agent is asked for the screen, and the orders that are given from it.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::model::Tab;
use crate::{
    cidr::name,
    cli::control::read,
    control::{
        client::Client,
        listing::{Findings, MAX_ROWS, Sort, Sources, Status},
        server::{BanBody, NetBody},
    },
    respond::report::{Bans, Done, Explanation},
};

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

/// What came of something that was asked.
pub(super) enum News {
    /// A new picture.
    Snapshot(Box<Result<Snapshot>>),
    /// What the agent said to an order.
    Said(Result<Done>),
}

/// Asks for all that is wanted.
///
/// # Errors
/// The agent does not answer.
pub(super) async fn fetch(client: &Client, wanted: &Wanted) -> Result<Snapshot> {
    let Wanted { tab, sort, detail } = *wanted;
    let (mut findings, mut bans) = (None, None);
    let mut rows = MAX_ROWS;
    match tab {
        Tab::Sources => {}
        Tab::Findings => {
            findings = Some(get(client, &format!("/v1/findings?limit={MAX_ROWS}")).await?);
            rows = 1;
        }
        Tab::Bans => {
            bans = Some(get(client, "/v1/bans").await?);
            rows = 1;
        }
    }
    let detail = match detail {
        Some(address) => Some(get(client, &format!("/v1/explain/{address}")).await?),
        None => None,
    };
    Ok(Snapshot {
        wanted: *wanted,
        status: get(client, "/v1/status").await?,
        sources: get(client, &format!("/v1/sources?limit={rows}&sort={}", sort.label())).await?,
        findings,
        bans,
        detail,
    })
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    read(&client.get(path).await?)
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

impl Order {
    /// Gives it.
    ///
    /// # Errors
    /// The agent refuses, or does not answer.
    pub(super) async fn give(self, client: &Client) -> Result<Done> {
        let body = |net| NetBody { net: name(net) };
        let answer = match self {
            Self::Ban(net, lasts) => {
                let seconds = lasts.map(|lasts| lasts.as_secs_f64());
                let reason = Some("by hand, from scanguard top".to_owned());
                client.post("/v1/ban", &BanBody { net: name(net), seconds, reason }).await?
            }
            Self::Unban(net) => client.post("/v1/unban", &body(net)).await?,
            Self::Allow(net) => client.post("/v1/allow", &body(net)).await?,
        };
        read(&answer)
    }
}
