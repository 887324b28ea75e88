//! The local control socket: HTTP and JSON over a Unix socket.
//!
//! ```text
//! scanguard ban ... -> client -> socket -> server -> bounded channel -> the agent's main task -> answer
//! ```
//! Only the main task changes the kernel's maps. The kernel gives the credentials of the peer; they decide about
//! access, and they are logged.

pub mod agent_handle;
pub mod client;
pub mod listing;
mod lock;
pub mod metrics;
pub mod peer;
pub mod server;
pub mod settings;
pub mod socket;

use std::net::IpAddr;

use scanguard_common::numbered;
use tokio::sync::oneshot;

use self::{
    listing::{ActorReports, Actors, Findings, Picture, Sort, Sources, Status},
    peer::Peer,
};
use crate::respond::{
    orders::{Order, OrderError},
    report::{Bans, Done, Explanation},
};

/// A request to the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Carry out an order.
    Order(Order),
    /// Read the configuration again.
    Reload,
    /// List all bans.
    Bans,
    /// Show the agent's state.
    Status,
    /// Explain why an address is banned or not.
    Explain(IpAddr),
    /// List the sources that probed lately.
    Sources {
        /// The most rows.
        rows: usize,
        /// The order of rows.
        sort: Sort,
    },
    /// List the open findings, at most this many.
    Findings(usize),
    /// All of these at one moment, at most this many of each.
    Picture(usize),
    /// List who uses the network from this host, at most this many.
    Actors(usize),
    /// Explain why actors are blocked or not: those whose path, name, unit or address matches.
    ExplainActors(glob::Pattern),
    /// Forget the programs whose path or unit matches.
    ForgetActors(glob::Pattern),
}

/// The agent's answer.
#[derive(Debug)]
pub enum Answer {
    /// The order was carried out.
    Done(Done),
    /// The order was refused.
    Refused(OrderError),
    /// The old configuration stays; all errors in the new one.
    Misconfigured(Vec<String>),
    /// All bans.
    Bans(Bans),
    /// The agent's state.
    Status(Box<Status>),
    /// The explanation for one address.
    Explanation(Box<Explanation>),
    /// The sources that probed lately.
    Sources(Sources),
    /// Open findings.
    Findings(Findings),
    /// All of these at one moment.
    Picture(Box<Picture>),
    /// Who uses the network from this host.
    Actors(Actors),
    /// Why actors are blocked or not.
    ActorReports(ActorReports),
}

/// A request with its sender.
#[derive(Debug)]
pub struct Request {
    /// The sender.
    pub peer: Peer,
    /// The question or order.
    pub ask: Ask,
    /// The channel for the answer. Its receiver may have gone.
    pub answer: oneshot::Sender<Answer>,
}

numbered! {
    /// The result of a request, for the metrics.
    Outcome {
        /// It was answered or carried out.
        Done = "done",
        /// The agent refused.
        Refused = "refused",
        /// There is no such request, or it is malformed.
        Invalid = "invalid",
        /// The peer has no right to ask.
        Forbidden = "forbidden",
        /// The agent did not answer in time.
        Busy = "busy",
    }
}

#[cfg(test)]
mod tests;
