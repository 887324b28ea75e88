//! What is told of many sources and findings at once: questions, answers, and the answers in words.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::command::{count, left};
use crate::{
    cidr::name,
    respond::report::{Bans, FindingReport, Status},
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

/// Whether a source is banned or shielded from, in a word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BanState {
    /// It is not.
    None,
    /// It never is.
    Allowed,
    /// It is not, but what of its packets meets no service here is dropped, or counted.
    Shielded,
    /// It is, and the mode is observe: nothing is done.
    Banned,
    /// It is, and its packets are counted.
    Counted,
    /// It is, and its packets are dropped.
    Dropped,
}

impl BanState {
    /// The word; nothing where there is nothing to say.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Allowed => "allowed",
            Self::Shielded => "shield",
            Self::Banned => "banned",
            Self::Counted => "counted",
            Self::Dropped => "dropped",
        }
    }
}

/// `GET /v1/findings?limit=N`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Findings {
    /// Findings that are open.
    pub open: usize,
    /// Those whose sources were seen last, the latest first.
    pub findings: Vec<OpenFinding>,
}

/// An open finding with whose it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct OpenFinding {
    /// Who; none where all addresses are forged.
    pub source: Option<IpNet>,
    /// How many take part in a campaign; 0 where the source scans alone.
    pub sources: u64,
    /// The country of the source, if a database knows it.
    pub country: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub finding: FindingReport,
}

impl OpenFinding {
    /// Whose it is, in words.
    pub fn who(&self) -> String {
        match (self.source, self.sources) {
            (_, 2..) => count(self.sources, "source"),
            (Some(net), _) => name(net),
            (None, _) => "forged".to_owned(),
        }
    }

    /// How much there is of it, in words.
    pub fn size(&self) -> String {
        self.finding.said.clone().unwrap_or_else(|| count(self.finding.probes, "probe"))
    }
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

/// Classes with their numbers, in words: `950 syn, 3 fin`.
pub fn classes(of: &[(String, u64)]) -> String {
    let words: Vec<_> = of.iter().map(|(class, number)| format!("{number} {class}")).collect();
    words.join(", ")
}

pub(super) fn sources_text(answer: &Sources) -> String {
    let mut text = format!(
        "{:<24} {:>8} {:>10} {:>8} {:>6} {:>9} {:>9} {:<2} {:<8} {:<24} PROBES BY CLASS\n",
        "SOURCE", "RATE/S", "PROBES", "SERVICES", "HOSTS", "COMPLETED", "LAST", "CC", "BAN", "FINDINGS"
    );
    for source in &answer.sources {
        text.push_str(&format!(
            "{:<24} {:>8.1} {:>10} {:>8} {:>6} {:>9} {:>9} {:<2} {:<8} {:<24} {}\n",
            name(source.net),
            source.per_second,
            source.probes,
            source.services,
            source.hosts,
            source.completed,
            left(Some(source.seconds_since_last)),
            source.country.as_deref().unwrap_or(""),
            source.ban.label(),
            source.rules.join(", "),
            classes(&source.classes)
        ));
    }
    text + &format!(
        "{} of {} that probed within the last {} minutes; {} remembered\n",
        answer.sources.len(),
        count(answer.active, "source"),
        ACTIVE.as_secs() / 60,
        answer.remembered
    )
}

pub(super) fn findings_text(answer: &Findings) -> String {
    let mut text = format!(
        "{:<24} {:<20} {:<8} {:<10} {:<20} WHY\n",
        "SOURCE", "RULE", "SEVERITY", "CONFIDENCE", "LAST"
    );
    for open in &answer.findings {
        let finding = &open.finding;
        text.push_str(&format!(
            "{:<24} {:<20} {:<8} {:<10} {:<20.0} {}: {}\n",
            open.who(),
            finding.rule,
            finding.severity.label(),
            finding.confidence.label(),
            finding.last_seen,
            open.size(),
            finding.reason
        ));
    }
    text + &format!("{} of {}\n", answer.findings.len(), count(answer.open, "open finding"))
}
