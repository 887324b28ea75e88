//! Detection Finding of the Open Cybersecurity Schema Framework: class 2004 of <https://schema.ocsf.io/1.6.0/>.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context, PRODUCT, VENDOR, VERSION,
    actor::put_ocsf,
    attack::{Attack, attack},
    json::json as own,
    names::protocol_name,
    put,
};
use crate::detect::{
    Confidence, Severity, Technique,
    findings::{Direction, Event, EventKind, Finding, Target},
    geo::Country,
    rules::outbound,
};

/// The version of the schema; AWS Security Hub reads this one.
const SCHEMA: &str = "1.6.0";
const CLASS: u32 = 2004;
/// `type_id` of an observable that is an IP address.
const IP_ADDRESS: u32 = 2;
/// `direction_id`: from the outside in.
const INBOUND: u32 = 1;
/// From the inside out.
const OUTBOUND: u32 = 2;
/// `type_id` of an analytic that is a rule.
const RULE: u32 = 1;
/// `type_id` of a device whose type nobody knows.
const UNKNOWN: u32 = 0;

/// The event.
pub(super) fn event(event: &Event, context: &Context) -> Value {
    let Event { time, kind, finding } = event;
    let (activity_id, activity, status_id, status) = match kind {
        EventKind::Opened => (1, "Create", 1, "New"),
        EventKind::Updated => (2, "Update", 2, "In Progress"),
        EventKind::Closed => (3, "Close", 4, "Resolved"),
    };
    let (severity_id, severity) = match finding.severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    };
    let (confidence_id, confidence) = match finding.confidence {
        Confidence::Low => (1, "Low"),
        Confidence::Medium => (2, "Medium"),
        Confidence::High => (3, "High"),
    };
    let source = finding.source_ip();
    let mut value = json!({
        "activity_id": activity_id,
        "activity_name": activity,
        "category_name": "Findings",
        "category_uid": 2,
        "class_name": "Detection Finding",
        "class_uid": CLASS,
        "confidence": confidence,
        "confidence_id": confidence_id,
        "count": finding.probes(),
        "device": { "hostname": context.host, "type_id": UNKNOWN },
        "end_time": finding.last.as_millisecond(),
        "finding_info": info(finding, *time),
        "is_alert": true,
        "message": finding.reason,
        "metadata": {
            "log_name": "findings",
            "product": { "name": PRODUCT, "vendor_name": VENDOR, "version": VERSION },
            "version": SCHEMA,
        },
        "severity": severity,
        "severity_id": severity_id,
        "start_time": finding.first.as_millisecond(),
        "status": status,
        "status_id": status_id,
        "time": time.as_millisecond(),
        "type_name": format!("Detection Finding: {activity}"),
        "type_uid": CLASS * 100 + activity_id,
        // Fields that the class does not have, named as in docs/findings.md.
        "unmapped": unmapped(event, context),
    });
    let evidences: Vec<_> = finding.targets.iter().map(|target| evidence(finding, Some(target))).collect();
    if !evidences.is_empty() {
        value["evidences"] = evidences.into();
    } else if source.is_some() || finding.actor.as_ref().is_some_and(|actor| actor.process.is_some()) {
        value["evidences"] = json!([evidence(finding, None)]);
    }
    let observable = |ip| json!([{ "name": "evidences[].src_endpoint.ip", "type": "IP Address", "type_id": IP_ADDRESS, "value": ip }]);
    put(&mut value, "observables", source.map(observable));
    value
}

fn info(finding: &Finding, time: Timestamp) -> Value {
    json!({
        "analytic": { "name": finding.rule, "type": "Rule", "type_id": RULE },
        "attacks": finding.techniques.iter().map(|technique| of_attack(*technique)).collect::<Vec<_>>(),
        "desc": finding.reason,
        "first_seen_time": finding.first.as_millisecond(),
        "last_seen_time": finding.last.as_millisecond(),
        "modified_time": time.as_millisecond(),
        "title": format!("{}: {}", if outbound::is_notice(finding.rule) { "Network use" } else { "Scanning" }, finding.rule),
        "types": [finding.rule],
        "uid": finding.id,
    })
}

fn of_attack(technique: Technique) -> Value {
    let Attack { technique, part, tactic } = attack(technique);
    let named = |(uid, name): (&str, &str)| json!({ "uid": uid, "name": name });
    let mut value = json!({ "tactic": named(tactic), "technique": named(technique) });
    put(&mut value, "sub_technique", part.map(named));
    value
}

fn evidence(finding: &Finding, target: Option<&Target>) -> Value {
    let mut value = json!({});
    put(&mut value, "src_endpoint", finding.source_ip().map(|ip| source(ip, finding)));
    if let Some(actor) = &finding.actor {
        put_ocsf(&mut value, actor);
    }
    if let Some(Target { ip, port, protocol }) = target {
        let (direction, direction_id) = match finding.direction() {
            Direction::Inbound => ("Inbound", INBOUND),
            Direction::Outbound => ("Outbound", OUTBOUND),
        };
        value["connection_info"] = json!({
            "direction": direction,
            "direction_id": direction_id,
            "protocol_name": protocol_name(*protocol),
            "protocol_num": protocol,
        });
        value["dst_endpoint"] = json!({ "ip": ip });
        put(&mut value["dst_endpoint"], "port", *port);
    }
    value
}

fn source(ip: std::net::IpAddr, finding: &Finding) -> Value {
    let mut value = json!({ "ip": ip });
    let country = finding.origin.country.as_ref().map(Country::as_str);
    put(&mut value, "location", country.map(|country| json!({ "country": country })));
    if let Some(network) = &finding.origin.network {
        value["autonomous_system"] = json!({ "number": network.number });
        put(&mut value["autonomous_system"], "name", network.organization.clone());
    }
    value
}

fn unmapped(event: &Event, context: &Context) -> Value {
    let own = serde_json::to_value(own(event, context.ipv6_prefix)).unwrap_or_default();
    let kept = [
        "actor",
        "direction",
        "source",
        "sources",
        "spoofable",
        "counts",
        "reached",
        "completed",
        "aborted",
        "crafted",
    ];
    kept.iter().filter_map(|key| Some(((*key).to_owned(), own.get(key)?.clone()))).collect()
}
