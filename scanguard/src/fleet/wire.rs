//! What members and the role `fleet` say to each other: subjects and messages. Pure.
//!
//! Messages are JSON. A reader ignores fields that it does not know, so that members of a later version can speak with
//! those of an earlier one; a field never changes its meaning. Who speaks is in the subject, which the server checks,
//! and nowhere else.

use std::{hash::Hasher as _, net::IpAddr, time::Duration};

use fnv::FnvHasher;
use ipnet::IpNet;
use scanguard_common::{address::Address, numbered};
use serde::{Deserialize, Serialize, de::Error as _};

use super::settings::check_name;
use crate::observe::seen::Met;

/// The version of the messages.
pub const VERSION: u8 = 1;
/// The parts into which sources are divided. Whoever holds a part compares what all members say of its sources.
pub const PARTITIONS: u8 = 16;
/// The largest message in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// How many sightings one message has.
pub const MAX_SIGHTINGS: usize = 256;
/// How many items a sighting has.
pub const MAX_ITEMS: usize = 4;
/// How many services and how many own addresses a message names.
pub const MAX_NAMED: usize = 64;
/// How many findings one message has.
pub const MAX_FINDINGS: usize = 64;
/// How many items of evidence a decision quotes.
pub const MAX_EVIDENCE: usize = 16;
/// Sightings that are older are no evidence for any rule.
pub const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest text in a message, in bytes.
const MAX_TEXT: usize = 500;
/// The widest IPv6 source.
const WIDEST_V6: u8 = 32;

/// The stream of what members say.
pub const SIGHTINGS: &str = "SG_SIGHT";
/// The stream of decisions.
pub const DECISIONS: &str = "SG_DECIDE";
/// The stream of what rules of single members found.
pub const FINDINGS: &str = "SG_FIND";
/// The bucket of leases.
pub const LEASES: &str = "SG_LEASE";
/// The stream of what instances of the role know, for those that take a partition over.
pub const STATES: &str = "SG_STATE";
/// The subjects of all of it.
pub const ALL_STATES: &str = "sg.v1.state.>";
/// The subjects of all sightings.
pub const ALL_SIGHTINGS: &str = "sg.v1.sight.*.*";
/// The subjects of all findings.
pub const ALL_FINDINGS: &str = "sg.v1.find.*.*";
/// The subjects of all decisions in their stream.
pub const ALL_DECISIONS: &str = "sg.v1.decide.*";
/// The subjects under which decisions go out to members.
pub const ALL_OUT: &str = "sg.v1.out.*";

numbered! {
    /// Why a message is not used.
    Fault {
        /// It is larger than any member's.
        Large = "too_large",
        /// It is no JSON of this form.
        Form = "form",
        /// It has more of something than any member's.
        Many = "too_many",
        /// It is about a source of another partition.
        Partition = "partition",
        /// Its subject is none of these.
        Subject = "subject",
    }
}

/// A message that is not used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {what}", .fault.label())]
pub struct WireError {
    /// The kind of fault.
    pub fault: Fault,
    /// In words.
    pub what: String,
}

fn fault(fault: Fault, what: impl Into<String>) -> WireError {
    WireError { fault, what: what.into() }
}

/// The partition of a source. It is the same in every release.
pub fn partition(net: IpNet) -> u8 {
    let mut hasher = FnvHasher::default();
    hasher.write(&Address::from(net.addr()).bytes());
    hasher.write_u8(net.prefix_len());
    // The upper bits depend on all bytes more than the lower ones do.
    (hasher.finish() >> 60) as u8 % PARTITIONS
}

/// The subject of a member's sightings of sources in a partition.
pub fn sight(partition: u8, host: &str) -> String {
    format!("sg.v1.sight.{partition}.{host}")
}

/// The subjects of all members' sightings in a partition.
pub fn sight_by_all(partition: u8) -> String {
    format!("sg.v1.sight.{partition}.*")
}

/// The subject of a member's findings about sources in a partition.
pub fn find(partition: u8, host: &str) -> String {
    format!("sg.v1.find.{partition}.{host}")
}

/// The subjects of all members' findings about sources in a partition.
pub fn find_by_all(partition: u8) -> String {
    format!("sg.v1.find.{partition}.*")
}

/// The subject of what says which snapshot of a partition counts.
pub fn state_head(partition: u8) -> String {
    format!("sg.v1.state.{partition}.head")
}

/// The subject of a piece of a snapshot.
pub fn state_piece(partition: u8, slot: u8, piece: u32) -> String {
    format!("sg.v1.state.{partition}.{slot}.{piece}")
}

/// The member that speaks.
///
/// # Errors
/// It is no such subject.
pub fn speaker(subject: &str) -> Result<&str, WireError> {
    let wrong = || fault(Fault::Subject, subject);
    let rest = subject.strip_prefix("sg.v1.sight.").or_else(|| subject.strip_prefix("sg.v1.find."));
    let (_, host) = rest.and_then(|rest| rest.split_once('.')).ok_or_else(wrong)?;
    check_name(host).map_err(|_| wrong())?;
    Ok(host)
}

/// The subject of decisions about a source.
pub fn decide(net: IpNet) -> String {
    let hex: String = Address::from(net.addr()).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sg.v1.decide.{hex}-{}", net.prefix_len())
}

/// A service at an address, as it is written: address, protocol, port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place(pub IpAddr, pub u8, pub u16);

/// An item that a source asked for, as it is written: address, protocol, port, and what it met.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Asked(pub IpAddr, pub u8, pub u16, pub Fate);

impl Asked {
    /// The place that was asked for.
    pub fn place(&self) -> Place {
        Place(self.0, self.1, self.2)
    }
}

/// What an item met, as far as the reader's version knows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fate(pub Option<Met>);

impl Serialize for Fate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.map_or("unknown", Met::label))
    }
}

impl<'de> Deserialize<'de> for Fate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let label = String::deserialize(deserializer)?;
        if label.len() > MAX_TEXT {
            return Err(D::Error::custom("too long"));
        }
        Ok(Self(Met::from_label(&label)))
    }
}

/// What a member saw of a source. It has no arguments, paths, names or content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sighting {
    /// The source.
    #[serde(rename = "s")]
    pub source: IpNet,
    /// How long before the message was sent, in milliseconds.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub age: u64,
    /// The most frequent class of its probes.
    #[serde(rename = "c", default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// What it asked for, at most [`MAX_ITEMS`].
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Asked>,
    /// Whether connections with it were completed: somebody uses this address.
    #[serde(rename = "d", default, skip_serializing_if = "is_default")]
    pub completed: bool,
    /// Whether a rule found it on evidence that nobody can forge.
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub proven: bool,
    /// The tool that its SYNs look like.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A message of a member, about sources in one partition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Batch {
    /// The version of the sender.
    pub v: u8,
    /// A random number of this run of the sender. Nobody else knows it, so that nobody can take its message numbers.
    pub boot: u64,
    /// The number of the message in this run.
    pub n: u64,
    /// The sender's own addresses, if they are told in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<IpAddr>,
    /// Services that were there lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Place>,
    /// The sightings, at most [`MAX_SIGHTINGS`].
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<Sighting>,
}

impl Batch {
    /// Its number among all messages, for the header `Nats-Msg-Id`.
    pub fn id(&self, host: &str) -> String {
        format!("{host}.{:016x}.{}", self.boot, self.n)
    }

    /// Reads a message in a partition.
    ///
    /// # Errors
    /// Why it is not used. Nothing of it is.
    pub fn read(payload: &[u8], partition: u8) -> Result<Self, WireError> {
        let batch: Self = read(payload)?;
        if batch.sightings.len() > MAX_SIGHTINGS
            || batch.own.len() > MAX_NAMED
            || batch.open.len() > MAX_NAMED
            || batch.sightings.iter().any(|sighting| sighting.items.len() > MAX_ITEMS)
        {
            return Err(fault(Fault::Many, "more than any member says"));
        }
        for Sighting { source, class, tool, .. } in &batch.sightings {
            check_source(*source)?;
            if class.len() > MAX_NAMED || tool.len() > MAX_NAMED {
                return Err(fault(Fault::Form, "a name is too long"));
            }
            if self::partition(*source) != partition {
                return Err(fault(Fault::Partition, source.to_string()));
            }
        }
        Ok(batch)
    }
}

/// What the version says, which must be readable before the rest.
#[derive(Deserialize)]
struct Version {
    v: u8,
}

fn read<'p, T: Deserialize<'p>>(payload: &'p [u8]) -> Result<T, WireError> {
    if payload.len() > MAX_MESSAGE {
        return Err(fault(Fault::Large, format!("{} bytes", payload.len())));
    }
    let form = |error: serde_json::Error| fault(Fault::Form, error.to_string());
    let Version { v } = serde_json::from_slice(payload).map_err(form)?;
    if v == 0 {
        return Err(fault(Fault::Form, "version 0"));
    }
    serde_json::from_slice(payload).map_err(form)
}

pub(super) fn check_source(net: IpNet) -> Result<(), WireError> {
    let least = if net.addr().is_ipv4() { 32 } else { WIDEST_V6 };
    let is_source = net.trunc() == net
        && net.prefix_len() >= least
        && !net.addr().is_unspecified()
        && !net.addr().is_multicast();
    if is_source { Ok(()) } else { Err(fault(Fault::Form, format!("{net} is no source"))) }
}

/// A finding of a member's own rules. It has no reason in words: that may quote what somebody said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reported {
    /// Unique at its host.
    pub id: String,
    /// The source, or a network around many.
    #[serde(rename = "s")]
    pub source: IpNet,
    /// How long before the message was sent, in milliseconds.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub age: u64,
    /// The rule.
    pub rule: String,
    /// Whether it was opened, updated or closed.
    #[serde(default)]
    pub event: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: String,
    /// How sure it is.
    #[serde(default)]
    pub confidence: String,
    /// Whether the evidence cannot be forged.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proven: bool,
    /// How many sources there are, if they are many.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sources: u64,
    /// Probes, or how often the source sent content.
    #[serde(default)]
    pub size: u64,
}

/// A message of a member about what its rules found, of sources in one partition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The version of the sender.
    pub v: u8,
    /// The findings, at most [`MAX_FINDINGS`].
    #[serde(rename = "f")]
    pub findings: Vec<Reported>,
}

impl Report {
    /// Reads a message in a partition.
    ///
    /// # Errors
    /// Why it is not used. Nothing of it is.
    pub fn read(payload: &[u8], partition: u8) -> Result<Self, WireError> {
        let report: Self = read(payload)?;
        if report.findings.len() > MAX_FINDINGS {
            return Err(fault(Fault::Many, "more than any member says"));
        }
        for Reported { id, source, rule, event, severity, confidence, .. } in &report.findings {
            let is_plain = |text: &String| text.len() <= MAX_NAMED && !text.chars().any(char::is_control);
            if ![id, rule, event, severity, confidence].into_iter().all(is_plain) || source.trunc() != *source
            {
                return Err(fault(Fault::Form, "a name is no short text, or a source is none"));
            }
            if self::partition(*source) != partition {
                return Err(fault(Fault::Partition, source.to_string()));
            }
        }
        Ok(report)
    }
}

/// What is decided about a source.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its address may be forged: members shield themselves.
    Suspicion,
    /// Two members or more have proof.
    Ban,
}

impl Verdict {
    /// The name in output and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suspicion => "suspicion",
            Self::Ban => "ban",
        }
    }
}

/// What one member saw, as evidence.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// The member.
    pub host: String,
    /// What the source asked for there.
    pub item: Asked,
    /// How long before the decision, in seconds.
    pub age: u64,
}

/// A decision.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Decision {
    /// The version of the sender.
    pub v: u8,
    /// The source.
    pub source: IpNet,
    /// What is decided.
    pub verdict: Verdict,
    /// The rule.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Members that bear it out.
    pub members: u32,
    /// Some of the evidence.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// How long it lasts, in milliseconds from when the server stored it.
    pub lasts: u64,
    /// The revision of the lease by which it was made. Of a partition, decisions by an older one are not used.
    pub fence: u64,
}

impl Decision {
    /// Reads a decision.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn read(payload: &[u8]) -> Result<Self, WireError> {
        let decision: Self = read(payload)?;
        check_source(decision.source)?;
        if decision.evidence.len() > MAX_EVIDENCE {
            return Err(fault(Fault::Many, "more evidence than is ever quoted"));
        }
        let Self { rule, reason, lasts, .. } = &decision;
        let is_said = rule.len() <= MAX_NAMED && reason.len() <= MAX_TEXT;
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        if !is_said || !is_plain(rule) || !is_plain(reason) {
            return Err(fault(Fault::Form, "rule or reason are no short texts"));
        }
        if Duration::from_millis(*lasts) > OLDEST {
            return Err(fault(Fault::Form, format!("it lasts {lasts} ms")));
        }
        Ok(decision)
    }

    /// How long it lasts from when the server stored it.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.lasts)
    }
}

#[cfg(test)]
mod tests;
