//! The reports about bans: the answers of the control socket.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Mode, ModeCause, cause::Origin};
use crate::{
    cidr::name,
    detect::{Confidence, Severity},
    sensor::gate::Extent,
    words::count,
};

/// The order was carried out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Done {
    /// The change that was made.
    pub said: String,
    /// Further notes for the user.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A ban or shield.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BanReport {
    /// The network.
    pub net: IpNet,
    /// Which of the two.
    #[serde(default)]
    pub response: Extent,
    /// The origin of the ban.
    #[serde(flatten)]
    pub origin: Origin,
    /// Why.
    pub reason: String,
    /// The number of allowed networks in it, which it spares.
    #[serde(default)]
    pub spared: usize,
    /// Since when.
    pub since: Timestamp,
    /// Seconds until it ends; none: when it is taken back.
    pub seconds_left: Option<u64>,
    /// How often the source was banned by rules before.
    pub level: u32,
    /// Whether packets are dropped, rather than counted.
    pub drops: bool,
    /// Packets that were dropped, or would have been, since the network is banned.
    pub packets: Option<u64>,
    /// Seconds since the last of them.
    pub seconds_since_last: Option<u64>,
}

/// " without 2 that are never dropped", or nothing.
pub fn spared(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" without {count} that {} never dropped", if count == 1 { "is" } else { "are" }),
    }
}

/// `GET /v1/bans`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Bans {
    /// The mode in force.
    pub mode: Mode,
    /// All bans by network, or the latest ones, depending on the query.
    pub bans: Vec<BanReport>,
    /// Networks that are banned because feeds list them, beside these.
    pub feed_networks: usize,
}

/// Which sources the kernel holds until the agent has judged them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReflexReport {
    /// Sources that certainly missed this many services or addresses within a poll interval.
    pub services: u32,
    /// The duration of a hold, in milliseconds.
    pub milliseconds: u64,
}

/// The state of the response.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ResponseStatus {
    /// The mode in force.
    pub mode: Mode,
    /// The cause of the mode.
    pub mode_cause: ModeCause,
    /// Since when.
    pub mode_since: Timestamp,
    /// The value of `response.mode`.
    pub mode_configured: Mode,
    /// Seconds that are left to confirm.
    pub confirm_seconds_left: Option<u64>,
    /// `response.drop`.
    pub drop: String,
    /// Which sources the kernel holds until the agent has judged them; none: no source.
    pub reflex: Option<ReflexReport>,
    /// Bans by who made them.
    pub bans: BanCounts,
    /// `response.max_bans`.
    pub max_bans: u32,
    /// Shields.
    #[serde(default)]
    pub shields: ShieldCounts,
    /// Networks that are banned because feeds list them.
    pub feed_networks: usize,
    /// Networks on feeds that are not banned: they overlap with an allowed network, or there is no room.
    pub feed_networks_left_out: u64,
    /// Networks and addresses that are never banned, with the reason.
    pub allowed: Vec<AllowedReport>,
    /// Networks (IPv4 /24, IPv6 /48) in which rules banned, or asked for a ban, within the last minute.
    pub bans_last_minute: u32,
    /// `response.max_per_minute`.
    pub max_per_minute: u32,
    /// The circuit breaker is open: new bans by rules are refused.
    pub circuit_breaker_open: bool,
    /// The state file.
    pub state_file: String,
    /// Why it could not be written last.
    pub state_file_error: Option<String>,
}

/// Shields.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ShieldCounts {
    /// `response.shield`.
    pub on: bool,
    /// How many there are.
    pub held: usize,
    /// `response.max_shields`.
    pub most: u32,
}

/// Bans by who made them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct BanCounts {
    /// Of findings.
    pub rule: usize,
    /// By hand.
    pub hand: usize,
    /// CrowdSec's.
    pub crowdsec: usize,
    /// The fleet's.
    #[serde(default)]
    pub fleet: usize,
    /// Of an earlier agent, whose state file was lost.
    #[serde(default)]
    pub adopted: usize,
}

/// A network that is never banned.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AllowedReport {
    /// The network.
    pub net: IpNet,
    /// Why.
    pub why: String,
}

/// `GET /v1/explain/ADDRESS`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// The address in question.
    pub address: IpAddr,
    /// Whether it is banned or shielded from, whatever the mode; none: neither.
    #[serde(default)]
    pub response: Option<Extent>,
    /// Whether a ban holds for it, whatever the mode.
    pub banned: bool,
    /// Whether its packets are dropped now.
    pub dropped: bool,
    /// The same in words.
    pub verdict: String,
    /// The ban or shield that holds.
    pub ban: Option<BanReport>,
    /// The feed for which it is banned, and the network there.
    pub feed: Option<(String, IpNet)>,
    /// Why it is never banned.
    pub allowed: Option<AllowedReport>,
    /// When its last ban by a rule ended, and of what level that was.
    pub before: Option<(Timestamp, u32)>,
    /// Its open findings.
    pub findings: Vec<FindingReport>,
    /// Its remembered activity.
    pub history: Option<HistoryReport>,
    /// Its remembered content within connections.
    #[serde(default)]
    pub said: Option<String>,
}

/// A finding as evidence.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FindingReport {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether the address may be a forgery, in words.
    pub spoofable: String,
    /// The first of its probes.
    pub first_seen: Timestamp,
    /// The last.
    pub last_seen: Timestamp,
    /// Its probes.
    pub probes: u64,
    /// The content of the source, if the finding is for content.
    #[serde(default)]
    pub said: Option<String>,
    /// Why it is one.
    pub reason: String,
    /// The current decision of the policy about it.
    pub policy: String,
}

/// The activity of a source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HistoryReport {
    /// Probes by class.
    pub probes: Vec<(String, u64)>,
    /// Connections that it completed.
    pub completed: u64,
    /// Seconds since the first of the probes.
    pub seconds_since_first: u64,
    /// Seconds since the last.
    pub seconds_since_last: u64,
}

/// Whether a source is banned or shielded from, in a word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BanState {
    /// It is not.
    None,
    /// It never is.
    Allowed,
    /// It is not, but its packets that meet no service here are dropped or counted.
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

/// An open finding with its source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct OpenFinding {
    /// The network of the source; none where all addresses are forged.
    pub source: Option<IpNet>,
    /// How many take part in a campaign; 0 where the source scans alone.
    pub sources: u64,
    /// The country of the source, if a database knows it.
    pub country: Option<String>,
    /// Who asks others, if the finding is about what leaves this host: "python3 (unit web.service, uid 33, pid 4711)".
    #[serde(default)]
    pub actor: Option<String>,
    /// What that runs, with its arguments as far as they are told, and who started it. Not for everybody.
    #[serde(default)]
    pub command: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub finding: FindingReport,
}

impl OpenFinding {
    /// The source in words.
    pub fn who(&self) -> String {
        if let Some(actor) = &self.actor {
            return actor.clone();
        }
        match (self.source, self.sources) {
            (_, 2..) => count(self.sources, "source"),
            (Some(net), _) => name(net),
            (None, _) => "forged".to_owned(),
        }
    }

    /// The size of the finding, in words.
    pub fn size(&self) -> String {
        self.finding.said.clone().unwrap_or_else(|| count(self.finding.probes, "probe"))
    }
}
