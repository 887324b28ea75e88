//! Findings as lines: JSON for machines, text for people.

use std::{borrow::Cow, fmt::Write as _};

use scanguard_common::{address::Address, oracle::Reach};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use super::content::JsonContent;
use crate::detect::{
    findings::{Event, Target},
    geo::{Country, Origin},
};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One readable line an event.
    Text,
    /// One JSON object a line, as docs/findings.md describes it.
    Json,
    /// Detection Finding of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// Alert of Suricata's EVE log.
    Eve,
    /// Elastic Common Schema.
    Ecs,
}

/// The line for people.
pub(super) fn text(event: &Event, ipv6_prefix: u8, colour: bool) -> String {
    let finding = &event.finding;
    let techniques: Vec<_> = finding.techniques.iter().map(|technique| technique.id()).collect();
    let (on, off) = match (colour, event.kind.label()) {
        (true, "opened") => ("\x1b[1;31m", "\x1b[0m"),
        (true, "updated") => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let mut line = format!(
        "{:.3} {on}{:<7}{off} {:<6} {} {} {}{}: {}",
        event.time,
        event.kind.label(),
        finding.severity.label(),
        finding.rule,
        techniques.join(","),
        SourceName { address: finding.source, ipv6_prefix },
        Whence(&finding.origin),
        finding.reason,
    );
    if event.kind.label() == "closed" {
        // Writing to a String does not fail.
        let _ = match &finding.content {
            None => write!(
                line,
                "; in all {} probes, services {}, addresses {}",
                finding.probes(),
                finding.services(),
                finding.hosts()
            ),
            Some(content) => write!(line, "; said in all {} times: {}", finding.size(), content.summary),
        };
    }
    line
}

/// A source as people write it: an address, or an IPv6 prefix.
pub(crate) struct SourceName {
    pub(crate) address: Address,
    pub(crate) ipv6_prefix: u8,
}

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.address == Address::UNSPECIFIED {
            return f.write_str("forged sources");
        }
        let ip = self.address.to_ip();
        if self.address.is_v4() || self.ipv6_prefix == 128 {
            return ip.fmt(f);
        }
        write!(f, "{ip}/{}", self.ipv6_prefix)
    }
}

/// " (DE, AS64500 Example)", or nothing.
struct Whence<'f>(&'f Origin);

impl std::fmt::Display for Whence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self.0 == Origin::default() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// The event as JSON.
pub(super) fn json(event: &Event, ipv6_prefix: u8) -> Json<'_> {
    Json { event, ipv6_prefix }
}

/// An event as JSON; `docs/findings.md` describes it.
pub(super) struct Json<'e> {
    event: &'e Event,
    ipv6_prefix: u8,
}

#[derive(Serialize)]
struct JsonSource {
    ip: std::net::IpAddr,
    /// Bits of `ip` that are known; absent for a single address.
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

/// The transport by its name in /etc/protocols, others by number.
pub(super) fn protocol_name(number: u8) -> Cow<'static, str> {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        other => other.to_string().into(),
    }
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

/// Who takes part in a campaign.
#[derive(Serialize)]
struct JsonSources {
    count: u64,
    examples: Vec<JsonSource>,
}

/// What the source's probes met.
#[derive(Serialize)]
struct JsonReached {
    open: u64,
    closed: u64,
    unknown: u64,
    dark: u64,
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
    /// Absent where all sources are forged.
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
    /// Absent where the rule does not go by what is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<JsonContent<'e>>,
    first_seen: jiff::Timestamp,
    last_seen: jiff::Timestamp,
    reason: &'e str,
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
            source: finding.source_ip().map(|_| json_source(&finding.source, self.ipv6_prefix)),
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
            content: finding
                .content
                .as_ref()
                .map(|content| JsonContent::new(finding.size(), &content.summary)),
            first_seen: finding.first,
            last_seen: finding.last,
            reason: &finding.reason,
        }
        .serialize(serializer)
    }
}

fn json_source(address: &Address, ipv6_prefix: u8) -> JsonSource {
    let prefix = (!address.is_v4() && ipv6_prefix < 128).then_some(ipv6_prefix);
    JsonSource { ip: address.to_ip(), prefix }
}

fn json_target(target: &Target) -> JsonTarget {
    JsonTarget { ip: target.ip, port: target.port, protocol: protocol_name(target.protocol) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{geo::Network, rules::testing::Script};
    use crate::export::{
        forms::{Context, Formatter},
        writer::FindingsWriter,
    };

    fn first_event() -> Event {
        let rules = crate::detect::rules::Settings::default().rules().rules;
        let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
        let mut script = Script::new(rule, crate::detect::settings::Settings::default());
        for port in 1..=40 {
            script.syn(7, 1, port);
        }
        script.events().remove(0)
    }

    fn line(event: &Event, json: bool) -> String {
        let mut output = Vec::new();
        let format = if json { Format::Json } else { Format::Text };
        let context = Context { ipv6_prefix: 64, host: "edge1".to_owned() };
        FindingsWriter::new(&mut output, Formatter::plain(format, context)).write(event).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_json_line_says_who_did_what_to_whom_and_why() {
        let line = line(&first_event(), true);
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["event"], "opened");
        assert_eq!(json["rule"], "vertical_scan");
        assert_eq!(json["techniques"], serde_json::json!(["T1595.002"]));
        assert_eq!(json["severity"], "medium");
        assert_eq!(json["source"], serde_json::json!({ "ip": "192.0.2.7" }));
        assert_eq!(json["confidence"], "medium");
        assert_eq!(json["spoofable"], "yes: any address could have been written into these packets");
        let reached = serde_json::json!({ "open": 0, "closed": 40, "unknown": 0, "dark": 0 });
        assert_eq!((&json["reached"], &json["completed"]), (&reached, &0.into()));
        assert_eq!(json["aborted"], 0);
        assert_eq!(json["counts"]["probes"], 40);
        assert_eq!(json["counts"]["by_class"], serde_json::json!({ "syn": 40 }));
        assert_eq!(json["counts"]["hosts"], 1);
        let target = &json["targets"][0];
        assert_eq!((&target["ip"], &target["protocol"]), (&"198.51.100.1".into(), &"tcp".into()));
        assert!(json["reason"].as_str().unwrap().contains("40 syn probes"));
        assert_eq!(json["time"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn where_a_source_is_stands_in_the_line_if_it_is_known() {
        let mut event = first_event();
        let unknown: serde_json::Value = serde_json::from_str(&line(&event, true)).unwrap();
        assert!(["country", "asn", "as_org"].iter().all(|field| unknown.get(field).is_none()), "{unknown}");
        event.finding.origin = Origin {
            country: Country::new("DE"),
            network: Some(Network { number: 64_500, organization: Some("Example".to_owned()) }),
        };
        let json: serde_json::Value = serde_json::from_str(&line(&event, true)).unwrap();
        assert_eq!(
            (&json["country"], &json["asn"], &json["as_org"]),
            (&"DE".into(), &64_500.into(), &"Example".into())
        );
        assert!(line(&event, false).contains(" 192.0.2.7 (DE, AS64500 Example): "));
    }

    #[test]
    fn an_ipv6_source_says_its_prefix() {
        let mut event = first_event();
        let prefix: std::net::IpAddr = "2001:db8::".parse().unwrap();
        event.finding.source = prefix.into();
        let json: serde_json::Value = serde_json::from_str(&line(&event, true)).unwrap();
        assert_eq!(json["source"], serde_json::json!({ "ip": "2001:db8::", "prefix": 64 }));
        assert!(line(&event, false).contains(" 2001:db8::/64: "));
    }

    #[test]
    fn a_line_for_people_is_one_line_without_colour_where_none_is_wanted() {
        let line = line(&first_event(), false);
        assert!(
            line.starts_with(
                "1970-01-01T00:00:01.000Z opened  medium vertical_scan T1595.002 192.0.2.7: 40 syn"
            ),
            "{line}"
        );
        assert!(!line.contains('\x1b'));
    }
}
