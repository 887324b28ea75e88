//! Questions and answers about the agent's state, and about many sources and findings at once.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    crowdsec::CrowdsecStatus,
    fleet::member::FleetStatus,
    logs::unread::UnreadFile,
    respond::report::{BanState, Bans, FindingReport, OpenFinding, ResponseStatus},
    sandbox,
};

/// Most rows in an answer. Nobody could read more, and answers must stay cheap.
pub const MAX_ROWS: u16 = 200;
/// Rows in an answer if the request names no number.
pub const ROWS: u16 = 50;
/// A source is listed if it probed within this long.
pub const ACTIVE: Duration = Duration::from_secs(15 * 60);
/// A source's rate is the mean over this time. It is long enough to smooth single probes, and short enough to show
/// that a scan has ended.
pub const RATE: Duration = Duration::from_secs(10);

/// The order of sources.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Those that probe fastest.
    #[default]
    Rate,
    /// Those that probed most.
    Probes,
    /// Those that probed last.
    Last,
}

impl Sort {
    /// The name in requests and on screen.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Probes => "probes",
            Self::Last => "last",
        }
    }

    /// The next order, in turn.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Probes,
            Self::Probes => Self::Last,
            Self::Last => Self::Rate,
        }
    }
}

/// The query parameters of `GET /v1/sources` and `GET /v1/findings`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many rows, from 1 to [`MAX_ROWS`].
    #[serde(default)]
    pub limit: Option<u16>,
    /// The order of sources.
    #[serde(default)]
    pub sort: Option<Sort>,
}

impl ListQuery {
    /// The number of rows.
    ///
    /// # Errors
    /// The number is zero or too large.
    pub fn rows(self) -> Result<usize, String> {
        match self.limit.unwrap_or(ROWS) {
            limit @ 1..=MAX_ROWS => Ok(limit.into()),
            limit => Err(format!("limit = {limit} is not from 1 to {MAX_ROWS}")),
        }
    }
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Interfaces, with the attach mode; `None` if the program is not attached there.
    pub interfaces: Vec<(String, Option<String>)>,
    /// Interfaces that are not watched in native mode, with the reason, where `sensor.mode = "auto"` has chosen.
    #[serde(default)]
    pub fallbacks: BTreeMap<String, String>,
    /// The interfaces that were there at the start, with the time in which nobody watched them before.
    #[serde(default)]
    pub unwatched: BTreeMap<String, Unwatched>,
    /// Interfaces, with the way in which the egress program is attached; `None` if it is not.
    #[serde(default)]
    pub egress: Vec<(String, Option<String>)>,
    /// Packets since the program was loaded, by exit, the most frequent first.
    #[serde(default)]
    pub packets: Vec<(String, u64)>,
    /// Whether most packets within the last minute were not IP.
    #[serde(default)]
    pub mostly_not_ip: bool,
    /// Probes since then by class, likewise.
    #[serde(default)]
    pub probes: Vec<(String, u64)>,
    /// Open findings.
    pub findings_open: usize,
    /// The state of the response: mode, bans and shields.
    pub response: ResponseStatus,
    /// The state of the exchange with CrowdSec; `None` if there is none.
    #[serde(default)]
    pub crowdsec: Option<CrowdsecStatus>,
    /// The state as a member of a fleet; `None` if this host is none.
    #[serde(default)]
    pub fleet: Option<FleetStatus>,
    /// The followed logs of which no line can be read.
    #[serde(default)]
    pub unread_logs: Vec<UnreadFile>,
    /// The privileges that the agent has given up; `None` if it has not done so yet.
    #[serde(default)]
    pub sandbox: Option<sandbox::Report>,
}

/// The time in which nobody watched an interface before the agent did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Unwatched {
    /// Its length.
    pub seconds: f64,
    /// The same in words, with what is known of it.
    pub said: String,
}

/// `GET /v1/sources?limit=N&sort=rate|probes|last`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sources {
    /// When the counters were last read.
    pub polled: Timestamp,
    /// Packets that the program had seen by then, since it was loaded.
    pub packets: u64,
    /// Probes among them.
    pub probes: u64,
    /// Sources with a history.
    pub remembered: usize,
    /// Those that probed within the last 15 minutes.
    pub active: usize,
    /// The first of these, in the requested order.
    pub sources: Vec<SourceReport>,
}

/// A source that probed lately.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SourceReport {
    /// The address; for IPv6 the prefix.
    pub net: IpNet,
    /// Probes a second, over the last 10 s.
    pub per_second: f64,
    /// Its probes that are still in the history.
    pub probes: u64,
    /// The same by class, the most frequent first.
    pub classes: Vec<(String, u64)>,
    /// Distinct services that it tried (estimated).
    pub services: u64,
    /// Distinct addresses here that it tried (estimated).
    pub hosts: u64,
    /// Connections that it completed.
    pub completed: u64,
    /// Seconds since the first of its probes.
    pub seconds_since_first: u64,
    /// Seconds since the last.
    pub seconds_since_last: u64,
    /// Its country (ISO 3166-1), if a database knows it.
    pub country: Option<String>,
    /// Its autonomous system, likewise.
    pub network: Option<String>,
    /// The rules of its open findings.
    pub rules: Vec<String>,
    /// Whether it is banned.
    pub ban: BanState,
}

/// `GET /v1/findings?limit=N`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Findings {
    /// Findings that are open.
    pub open: usize,
    /// The findings whose sources were seen last, the latest first.
    pub findings: Vec<OpenFinding>,
}

/// `GET /v1/actors?limit=N`: who uses the network from this host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Actors {
    /// Programs that are known.
    pub known: usize,
    /// When learning is over: from then on, a new program is told.
    pub learned_at: Timestamp,
    /// Those that were seen last, the latest first.
    pub programs: Vec<Program>,
}

/// A program that uses the network.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Program {
    /// Its unit without names of instances, or "docker container".
    pub class: String,
    /// The path of its executable.
    pub path: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// When its executable was last found to be another one.
    #[serde(default)]
    pub updated: Option<Timestamp>,
    /// How it uses the network: `tcp`, `udp`, `raw`, `packet`.
    pub how: Vec<String>,
}

/// `GET /v1/actors/explain/PATTERN`: actors that are known now, and why they are blocked or not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ActorReports {
    /// How many match.
    pub matching: usize,
    /// Those that were active last, the latest first.
    pub actors: Vec<ActorReport>,
}

/// An actor: a program of a control group, a control group, or a host behind this one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ActorReport {
    /// What it is: `program`, `group`, `crafter` or `inner`.
    pub kind: String,
    /// Its name, and where it runs.
    pub actor: String,
    /// What it runs and who started it, as far as arguments are told.
    #[serde(default)]
    pub command: Option<String>,
    /// Whether it is blocked or not, and why.
    pub verdict: String,
    /// Why nothing is told of it, if so.
    #[serde(default)]
    pub allowed: Option<String>,
    /// Its open findings.
    pub findings: Vec<FindingReport>,
    /// Attempts by the names of their classes.
    pub attempts: Vec<(String, u64)>,
    /// Connections that were answered, and those that were refused.
    pub answered: u64,
    /// As above.
    pub refused: u64,
    /// Seconds since its first and since its last attempt that is remembered.
    pub seconds_since_first: u64,
    /// As above.
    pub seconds_since_last: u64,
    /// The rules that it falls short of, and how much of them it reaches.
    pub short_of: Vec<(String, String)>,
}

/// `GET /v1/picture?limit=N`: what the page shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Picture {
    /// The agent's state.
    pub status: Status,
    /// The sources that probe fastest.
    pub sources: Sources,
    /// The open findings whose sources were seen last.
    pub findings: Findings,
    /// The newest bans, the last one first.
    pub bans: Bans,
}
