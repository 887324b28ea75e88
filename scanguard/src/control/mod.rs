//! The local control socket: HTTP and JSON over a Unix socket.
//!
//! ```text
//! scanguard ban ... -> client -> socket -> server -> bounded channel -> the agent's main task -> answer
//! ```
//! The main task alone changes the kernel's maps. Who may ask is checked by the credentials that the kernel gives of
//! the peer, and logged.

pub mod client;
pub mod desk;
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
    listing::{Findings, Picture, Sort, Sources, Status},
    peer::Peer,
};
use crate::respond::{
    orders::{Order, OrderError},
    report::{Bans, Done, Explanation},
};

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Something is to be done.
    Order(Order),
    /// The configuration is to be read again.
    Reload,
    /// All bans.
    Bans,
    /// How it stands.
    Status,
    /// Why an address is banned or not.
    Explain(IpAddr),
    /// Who probed lately.
    Sources {
        /// At most so many.
        rows: usize,
        /// Who comes first.
        sort: Sort,
    },
    /// The open findings, at most so many.
    Findings(usize),
    /// All of that at one moment, at most so many of each.
    Picture(usize),
}

/// What the agent says.
#[derive(Debug)]
pub enum Answer {
    /// It was done.
    Done(Done),
    /// It was not.
    Refused(OrderError),
    /// The old configuration stays: all that is wrong with the new one.
    Misconfigured(Vec<String>),
    /// All bans.
    Bans(Bans),
    /// How it stands.
    Status(Box<Status>),
    /// Why.
    Explanation(Box<Explanation>),
    /// Who probed lately.
    Sources(Sources),
    /// Open findings.
    Findings(Findings),
    /// All of that.
    Picture(Box<Picture>),
}

/// A question with whom to answer.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub peer: Peer,
    /// What.
    pub ask: Ask,
    /// Where the answer goes. It may be gone by then.
    pub answer: oneshot::Sender<Answer>,
}

numbered! {
    /// What became of a request, for the metrics.
    Outcome {
        /// It was answered or carried out.
        Done = "done",
        /// The agent said no.
        Refused = "refused",
        /// It was no request that there is.
        Invalid = "invalid",
        /// The peer has no right to ask.
        Forbidden = "forbidden",
        /// The agent did not answer in time.
        Busy = "busy",
    }
}

#[cfg(test)]
mod tests;
