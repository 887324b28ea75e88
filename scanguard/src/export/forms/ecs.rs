//! The Elastic Common Schema, version 8.17: <https://www.elastic.co/guide/en/ecs/8.17/index.html>.

use serde_json::{Value, json};

use super::{
    Context, PRODUCT, VENDOR, VERSION,
    actor::put_ecs,
    attack::{Attack, attack},
    json::json as own,
    names::protocol_name,
    put,
};
use crate::detect::{
    Severity,
    findings::{Direction, Event, EventKind, Finding, Target},
    geo::Country,
};

const SCHEMA: &str = "8.17.0";

/// The event.
pub(super) fn event(event: &Event, context: &Context) -> Value {
    let Event { time, kind, finding } = event;
    // The values that Elastic's own detection rules use.
    let severity = match finding.severity {
        Severity::Info => 0,
        Severity::Low => 21,
        Severity::Medium => 47,
        Severity::High => 73,
    };
    let kinds = match kind {
        EventKind::Opened => ["info", "start"].as_slice(),
        EventKind::Updated => &["info"],
        EventKind::Closed => &["info", "end"],
    };
    // The words for sensors on a host.
    let direction = match finding.direction() {
        Direction::Inbound => "ingress",
        Direction::Outbound => "egress",
    };
    let mut value = json!({
        "@timestamp": time,
        "ecs": { "version": SCHEMA },
        "event": {
            "action": format!("finding-{}", kind.label()),
            "category": ["intrusion_detection", "network"],
            "dataset": "scanguard.finding",
            "end": finding.last,
            "id": finding.id,
            "kind": "alert",
            "module": "scanguard",
            "reason": finding.reason,
            "severity": severity,
            "start": finding.first,
            "type": kinds,
        },
        "host": { "name": context.host },
        "message": format!("{} {}: {}", finding.rule, kind.label(), finding.reason),
        "network": { "direction": direction },
        "observer": {
            "hostname": context.host,
            "product": PRODUCT,
            "type": "sensor",
            "vendor": VENDOR,
            "version": VERSION,
        },
        "rule": { "name": finding.rule, "ruleset": "scanguard" },
        "threat": threat(finding),
        // Fields that the schema does not have, named as in docs/findings.md.
        "scanguard": custom(event, context),
    });
    if let Some(ip) = finding.source_ip() {
        value["source"] = source(ip, finding);
        value["related"] = json!({ "ip": [ip] });
    }
    if let Some(actor) = &finding.actor {
        put_ecs(&mut value, actor);
    }
    if let Some(Target { ip, port, protocol }) = finding.targets.first() {
        value["destination"] = json!({ "ip": ip });
        put(&mut value["destination"], "port", *port);
        value["network"]["transport"] = protocol_name(*protocol).into();
    }
    value
}

fn source(ip: std::net::IpAddr, finding: &Finding) -> Value {
    let mut value = json!({ "address": ip.to_string(), "ip": ip });
    let country = finding.origin.country.as_ref().map(Country::as_str);
    put(&mut value, "geo", country.map(|country| json!({ "country_iso_code": country })));
    if let Some(network) = &finding.origin.network {
        value["as"] = json!({ "number": network.number });
        let name = network.organization.as_ref();
        put(&mut value["as"], "organization", name.map(|name| json!({ "name": name })));
    }
    value
}

fn threat(finding: &Finding) -> Value {
    let attacks: Vec<_> = finding.techniques.iter().map(|technique| attack(*technique)).collect();
    let distinct = |pairs: Vec<(&str, &str)>| {
        let mut pairs = pairs;
        pairs.dedup();
        let (ids, names): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        json!({ "id": ids, "name": names })
    };
    let mut value = json!({
        "framework": "MITRE ATT&CK",
        "tactic": distinct(attacks.iter().map(|attack| attack.tactic).collect()),
        "technique": distinct(attacks.iter().map(|attack| attack.technique).collect()),
    });
    let parts: Vec<_> = attacks.iter().filter_map(|Attack { part, .. }| *part).collect();
    if !parts.is_empty() {
        value["technique"]["subtechnique"] = distinct(parts);
    }
    value
}

fn custom(event: &Event, context: &Context) -> Value {
    let own = serde_json::to_value(own(event, context.ipv6_prefix)).unwrap_or_default();
    let kept = [
        "actor",
        "direction",
        "source",
        "sources",
        "spoofable",
        "confidence",
        "targets",
        "counts",
        "reached",
        "completed",
        "aborted",
        "crafted",
    ];
    kept.iter().filter_map(|key| Some(((*key).to_owned(), own.get(key)?.clone()))).collect()
}
