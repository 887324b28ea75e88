//! An alert in the format of Suricata's EVE log, for programs that read EVE.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    Context,
    attack::{Attack, attack},
    names::{SourceName, protocol_name},
    put,
};
use crate::detect::{
    Severity,
    findings::{Event, Target},
};

/// The generator id. Suricata's own rules have 1, so that the signatures cannot be confused.
const GENERATOR: u32 = 9823;

/// The alert.
pub(super) fn event(event: &Event, context: &Context) -> Value {
    let Event { time, kind, finding } = event;
    // 1 is the most severe.
    let severity = match finding.severity {
        Severity::High => 1,
        Severity::Medium => 2,
        Severity::Low => 3,
        Severity::Info => 4,
    };
    let attacks: Vec<_> = finding.techniques.iter().map(|technique| attack(*technique)).collect();
    let of = |name: fn(&Attack) -> &str| {
        let mut names: Vec<_> = attacks.iter().map(name).collect();
        names.dedup();
        names
    };
    let source = SourceName::of(finding, context.ipv6_prefix);
    let mut value = json!({
        "timestamp": time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.6f%z").to_string(),
        "event_type": "alert",
        "host": context.host,
        "alert": {
            // Dropped packets are reported by bans, not by alerts.
            "action": "allowed",
            "gid": GENERATOR,
            "signature_id": signature_id(finding.rule),
            "rev": 1,
            "signature": format!("ScanGuard {} {}", finding.rule, kind.label()),
            "category": "Detection of a Network Scan",
            "severity": severity,
            "metadata": {
                "confidence": [finding.confidence.label()],
                "mitre_tactic_id": of(|attack| attack.tactic.0),
                "mitre_tactic_name": of(|attack| attack.tactic.1),
                "mitre_technique_id": finding.techniques.iter().map(|one| one.id()).collect::<Vec<_>>(),
                "mitre_technique_name": of(|attack| attack.part.unwrap_or(attack.technique).1),
                "scanguard_event": [kind.label()],
                "scanguard_id": [finding.id],
                "scanguard_probes": [finding.probes().to_string()],
                "scanguard_reason": [finding.reason],
                "scanguard_source": [source.to_string()],
                "scanguard_spoofable": [finding.spoofable.to_string()],
                "signature_severity": [finding.severity.label()],
            },
        },
    });
    if let Some(actor) = &finding.actor {
        value["alert"]["metadata"]["scanguard_direction"] = json!([finding.direction().label()]);
        if let Some(origin) = actor.origin() {
            value["alert"]["metadata"]["scanguard_origin"] = json!([origin]);
        }
    }
    if !finding.tools.is_empty() {
        value["alert"]["metadata"]["scanguard_tools"] =
            json!(finding.tools.iter().map(|tool| &**tool).collect::<Vec<_>>());
    }
    put(&mut value, "src_ip", finding.source_ip().map(|ip| ip.to_string()));
    if let Some(Target { ip, port, protocol }) = finding.targets.first() {
        value["dest_ip"] = ip.to_string().into();
        put(&mut value, "dest_port", *port);
        // Suricata also writes numbers for protocols without a name.
        value["proto"] = protocol_name(*protocol).to_uppercase().into();
    }
    value
}

/// A stable number for a rule's name: 24 bits of its FNV-1a hash, above the numbers of Snort's and Suricata's own
/// rules.
pub(super) fn signature_id(rule: &str) -> u32 {
    let hash =
        rule.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (1 << 24) + (hash >> 8)
}
