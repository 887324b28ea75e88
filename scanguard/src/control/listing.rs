//! How the agent stands, and many sources and findings at once: questions and answers.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    crowdsec::CrowdsecStatus,
    respond::report::{BanState, Bans, OpenFinding, ResponseStatus},
    sandbox,
};

/// Rows of an answer at most. More could nobody read, and an answer is to stay cheap.
pub const MAX_ROWS: u16 = 200;
/// Rows where nothing is said of their number.
pub const ROWS: u16 = 50;
/// A source is listed if it probed within this long.
pub const ACTIVE: Duration = Duration::from_secs(15 * 60);
/// The time over which a source's rate is a mean: long enough that few probes make no jumps, short enough to see a scan end.
pub const RATE: Duration = Duration::from_secs(10);

/// Which sources come first.
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

    /// The next, in turn.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Probes,
            Self::Probes => Self::Last,
            Self::Last => Self::Rate,
        }
    }
}

/// What may be said after the `?` of `GET /v1/sources` and `GET /v1/findings`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many rows, from 1 to [`MAX_ROWS`].
    #[serde(default)]
    pub limit: Option<u16>,
    /// Which sources come first.
    #[serde(default)]
    pub sort: Option<Sort>,
}

impl ListQuery {
    /// The number of rows.
    ///
    /// # Errors
    /// None, or too many.
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
    /// Interfaces, with how the program is attached; none: it is not.
    pub interfaces: Vec<(String, Option<String>)>,
    /// Packets since the program was loaded, by how they left it, the most frequent first.
    #[serde(default)]
    pub packets: Vec<(String, u64)>,
    /// Probes since then by class, likewise.
    #[serde(default)]
    pub probes: Vec<(String, u64)>,
    /// Open findings.
    pub findings_open: usize,
    /// What is done about those who scan.
    pub response: ResponseStatus,
    /// What is exchanged with CrowdSec; none: nothing.
    #[serde(default)]
    pub crowdsec: Option<CrowdsecStatus>,
    /// What the agent has given up; none: it has not come so far.
    #[serde(default)]
    pub sandbox: Option<sandbox::Report>,
}

/// `GET /v1/sources?limit=N&sort=rate|probes|last`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sources {
    /// When the counters were read last.
    pub polled: Timestamp,
    /// Packets that the program saw until then, since it was loaded.
    pub packets: u64,
    /// Probes among them.
    pub probes: u64,
    /// Sources that are remembered.
    pub remembered: usize,
    /// Of them those that probed within the last 15 minutes.
    pub active: usize,
    /// The first of these.
    pub sources: Vec<SourceReport>,
}

/// A source that probed lately.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SourceReport {
    /// Who; of IPv6 the prefix.
    pub net: IpNet,
    /// Probes a second, over the last 10 s.
    pub per_second: f64,
    /// Its probes, as far as they are remembered.
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
    /// Those whose sources were seen last, the latest first.
    pub findings: Vec<OpenFinding>,
}

/// `GET /v1/picture?limit=N`: what the page shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Picture {
    /// How it stands.
    pub status: Status,
    /// Who probes fastest.
    pub sources: Sources,
    /// The open findings whose sources were seen last.
    pub findings: Findings,
    /// The bans that were made last, the last one first.
    pub bans: Bans,
}
