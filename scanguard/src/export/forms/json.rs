//! Findings as JSON; `docs/findings.md` describes it.

use std::borrow::Cow;

use scanguard_common::{address::Address, oracle::Reach};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    super::content::JsonContent,
    actor::JsonActor,
    names::{SourceName, protocol_name},
};
use crate::{
    detect::{
        findings::{Event, Finding, Target},
        geo::Country,
    },
    observe::activity::Crafted,
};

/// The event as JSON.
pub(super) fn json(event: &Event, ipv6_prefix: u8) -> Json<'_> {
    Json { event, ipv6_prefix, one_direction: false }
}

impl Json<'_> {
    /// Sets whether it is of a capture that has only one direction.
    pub(super) fn of_one_direction(self, one_direction: bool) -> Self {
        Self { one_direction, ..self }
    }
}

/// An event as JSON; `docs/findings.md` describes it.
pub(super) struct Json<'e> {
    event: &'e Event,
    ipv6_prefix: u8,
    one_direction: bool,
}

#[derive(Serialize)]
struct JsonSource {
    ip: std::net::IpAddr,
    /// Known bits of `ip`; absent for a single address.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
}

#[derive(Serialize)]
struct JsonTarget {
    ip: std::net::IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    protocol: Cow<'static, str>,
}

#[derive(Serialize)]
struct JsonCounts {
    probes: u64,
    services: u64,
    hosts: u64,
    by_class: ByClass,
}

struct ByClass(Vec<(&'static str, u64)>);

impl Serialize for ByClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (class, count) in &self.0 {
            map.serialize_entry(class, count)?;
        }
        map.end()
    }
}

/// The sources of a campaign.
#[derive(Serialize)]
struct JsonSources {
    count: u64,
    examples: Vec<JsonSource>,
}

/// The reach of the source's probes.
#[derive(Serialize)]
struct JsonReached {
    open: u64,
    closed: u64,
    unknown: u64,
    dark: u64,
}

/// SYNs that look like those of tools.
#[derive(Serialize)]
struct JsonCrafted<'e> {
    syns: u32,
    missed: u32,
    tools: Vec<&'e str>,
}

impl<'e> JsonCrafted<'e> {
    fn of(finding: &'e Finding) -> Option<Self> {
        let Crafted { syns, missed, .. } = finding.crafted();
        let tools: Vec<_> = finding.tools.iter().map(|tool| &**tool).collect();
        (!tools.is_empty()).then_some(Self { syns, missed, tools })
    }
}

#[derive(Serialize)]
struct JsonEvent<'e> {
    time: jiff::Timestamp,
    event: &'static str,
    id: &'e str,
    rule: &'static str,
    techniques: &'static [crate::detect::Technique],
    severity: crate::detect::Severity,
    confidence: crate::detect::Confidence,
    spoofable: String,
    direction: &'static str,
    /// Absent if somebody asks this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<JsonActor<'e>>,
    /// Absent if all sources are forged.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<JsonSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_org: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<JsonSources>,
    targets: Vec<JsonTarget>,
    counts: JsonCounts,
    reached: JsonReached,
    completed: u64,
    aborted: u64,
    /// Absent if the SYNs look like no listed tool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    crafted: Option<JsonCrafted<'e>>,
    /// Absent if the rule does not use content.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<JsonContent<'e>>,
    first_seen: jiff::Timestamp,
    last_seen: jiff::Timestamp,
    reason: &'e str,
    /// Absent if it is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    one_direction: Option<bool>,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { time, kind, finding } = self.event;
        let network = finding.origin.network.as_ref();
        JsonEvent {
            time: *time,
            event: kind.label(),
            id: &finding.id,
            rule: finding.rule,
            techniques: finding.techniques,
            severity: finding.severity,
            confidence: finding.confidence,
            spoofable: finding.spoofable.to_string(),
            direction: finding.direction().label(),
            actor: finding.actor.as_deref().map(JsonActor::of),
            source: finding
                .source_ip()
                .map(|ip| JsonSource { ip, prefix: SourceName::of(finding, self.ipv6_prefix).prefix() }),
            country: finding.origin.country.as_ref().map(Country::as_str),
            asn: network.map(|network| network.number),
            as_org: network.and_then(|network| network.organization.as_deref()),
            sources: (finding.sources.count > 0).then(|| JsonSources {
                count: finding.sources.count,
                examples: finding
                    .sources
                    .examples
                    .iter()
                    .map(|one| json_source(one, self.ipv6_prefix))
                    .collect(),
            }),
            targets: finding.targets.iter().map(json_target).collect(),
            counts: JsonCounts {
                probes: finding.probes(),
                services: finding.services().value,
                hosts: finding.hosts().value,
                by_class: ByClass(
                    finding.counts.by_frequency().iter().map(|(class, n)| (class.label(), *n)).collect(),
                ),
            },
            reached: JsonReached {
                open: finding.reached(Reach::Open),
                closed: finding.reached(Reach::Closed),
                unknown: finding.reached(Reach::Unknown),
                dark: finding.reached(Reach::Dark),
            },
            completed: finding.completed(),
            aborted: finding.aborted(),
            crafted: JsonCrafted::of(finding),
            content: finding
                .content
                .as_ref()
                .map(|content| JsonContent::new(finding.size(), &content.summary)),
            first_seen: finding.first,
            last_seen: finding.last,
            reason: &finding.reason,
            one_direction: self.one_direction.then_some(true),
        }
        .serialize(serializer)
    }
}

fn json_source(address: &Address, ipv6_prefix: u8) -> JsonSource {
    JsonSource { ip: address.to_ip(), prefix: SourceName::new(*address, ipv6_prefix).prefix() }
}

fn json_target(target: &Target) -> JsonTarget {
    JsonTarget { ip: target.ip, port: target.port, protocol: protocol_name(target.protocol) }
}
