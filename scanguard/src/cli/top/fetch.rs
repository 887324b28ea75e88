//! The requests that `top` sends to the agent: data for the screen, and orders.

use anyhow::Result;
use serde::de::DeserializeOwned;

use super::snapshot::{Order, Snapshot, Tab, Wanted};
use crate::{
    cidr::name,
    cli::control::ask::read,
    control::{
        client::Client,
        listing::MAX_ROWS,
        server::{BanBody, NetBody},
    },
    respond::report::Done,
};

/// The result of a request.
pub(super) enum News {
    /// New data for the screen.
    Snapshot(Box<Result<Snapshot>>),
    /// The agent's answer to an order.
    Said(Result<Done>),
}

/// Requests everything that the screen shows.
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

/// Sends an order.
///
/// # Errors
/// The agent refuses, or does not answer.
pub(super) async fn give(client: &Client, order: Order) -> Result<Done> {
    let body = |net| NetBody { net: name(net) };
    let answer = match order {
        Order::Ban(net, lasts) => {
            let seconds = lasts.map(|lasts| lasts.as_secs_f64());
            let reason = Some("by hand, from scanguard top".to_owned());
            client.post("/v1/ban", &BanBody { net: name(net), seconds, reason }).await?
        }
        Order::Unban(net) => client.post("/v1/unban", &body(net)).await?,
        Order::Allow(net) => client.post("/v1/allow", &body(net)).await?,
    };
    read(&answer)
}
