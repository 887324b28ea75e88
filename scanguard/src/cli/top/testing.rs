//! Sample answers of an agent, for tests.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::{
    model::{Effect, Model},
    snapshot::{Snapshot, Tab, Wanted},
};
use crate::{
    control::listing::{Findings, Sources, Status},
    respond::report::{Bans, Explanation},
};

fn status() -> Status {
    serde_json::from_value(json!({
        "version": "0.1.0", "pid": 1, "uptime_seconds": 300,
        "interfaces": [["edge0", "native"], ["edge1", null]], "findings_open": 2,
        "response": {
            "mode": "dry-run", "mode_cause": {"by": "configuration"}, "mode_since": "2026-01-01T00:00:00Z",
            "mode_configured": "dry-run", "confirm_seconds_left": null, "drop": "new", "reflex": null,
            "bans": {"rule": 1, "hand": 1, "crowdsec": 0, "adopted": 0}, "max_bans": 100, "shields": {"on": true, "held": 1, "most": 100}, "feed_networks": 0,
            "feed_networks_left_out": 0, "allowed": [], "bans_last_minute": 0, "max_per_minute": 60,
            "circuit_breaker_open": false, "state_file": "/var/lib/scanguard/state.json", "state_file_error": null
        }
    }))
    .unwrap()
}

/// The sources at a given second: the first one probes, the second one has stopped.
pub(super) fn sources(second: u64) -> Sources {
    serde_json::from_value(json!({
        "polled": format!("2026-01-01T00:00:{second:02}Z"), "packets": 1_000 * second, "probes": 25 * second,
        "remembered": 40, "active": 3,
        "sources": [
            {
                "net": "192.0.2.7/32", "per_second": second, "probes": 950 + second,
                "classes": [["syn", 947 + second], ["fin", 3]], "services": 940, "hosts": 1, "completed": 2,
                "seconds_since_first": 60, "seconds_since_last": 0, "country": "DE", "network": "AS64496 Example",
                "rules": ["vertical_scan"], "ban": "counted"
            },
            {
                "net": "2001:db8:1234:5678::/64", "per_second": 0.1, "probes": 1, "classes": [["icmp_echo", 1]],
                "services": 0, "hosts": 1, "completed": 0, "seconds_since_first": 9, "seconds_since_last": 9,
                "country": null, "network": null, "rules": [], "ban": "none"
            },
            {
                "net": "198.51.100.200/32", "per_second": 0.0, "probes": 64, "classes": [["syn", 64]],
                "services": 1, "hosts": 64, "completed": 0, "seconds_since_first": 400, "seconds_since_last": 300,
                "country": null, "network": null, "rules": ["horizontal_sweep"], "ban": "allowed"
            }
        ]
    }))
    .unwrap()
}

fn findings() -> Findings {
    serde_json::from_value(json!({
        "open": 1,
        "findings": [{
            "source": "192.0.2.7/32", "sources": 0, "country": "DE", "id": "1-0", "rule": "vertical_scan",
            "severity": "medium", "confidence": "high", "spoofable": "no: 2 connections completed",
            "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:50Z", "probes": 952,
            "reason": "940 closed services", "policy": "192.0.2.7 is banned already"
        }]
    }))
    .unwrap()
}

fn bans() -> Bans {
    serde_json::from_value(json!({
        "mode": "dry-run", "feed_networks": 0,
        "bans": [{
            "net": "192.0.2.7/32", "response": "ban", "by": "hand", "uid": 0, "reason": "by hand", "since": "2026-01-01T00:00:00Z",
            "seconds_left": 600, "level": 0, "drops": false, "packets": 12, "seconds_since_last": 1
        }, {
            "net": "198.51.100.9/32", "response": "shield", "by": "rule", "rule": "vertical_scan", "finding": "1-1",
            "reason": "shielded from for 10m", "since": "2026-01-01T00:00:00Z",
            "seconds_left": 500, "level": 0, "drops": false, "packets": 3, "seconds_since_last": 1
        }]
    }))
    .unwrap()
}

fn detail() -> Explanation {
    serde_json::from_value(json!({
        "address": "192.0.2.7", "banned": false, "dropped": false,
        "verdict": "not banned: there is no open finding of it \u{1b}[2J", "ban": null, "feed": null, "allowed": null,
        "before": null, "findings": [], "history": null
    }))
    .unwrap()
}

/// The answer to a request.
pub(super) fn snapshot(wanted: Wanted, second: u64) -> Snapshot {
    Snapshot {
        wanted,
        status: status(),
        sources: sources(second),
        findings: (wanted.tab == Tab::Findings).then(findings),
        bans: (wanted.tab == Tab::Bans).then(bans),
        detail: wanted.detail.map(|_| detail()),
    }
}

/// A model after some seconds of answers.
pub(super) fn model() -> Model {
    let mut model = Model::new(false);
    for second in 1..=8 {
        model.take(snapshot(model.wanted(), second));
    }
    model
}

/// Presses keys, lets the agent answer the requests, and returns the last effect.
pub(super) fn press(model: &mut Model, keys: &[KeyCode]) -> Option<Effect> {
    let mut last = None;
    for key in keys {
        last = model.press(KeyEvent::new(*key, KeyModifiers::NONE));
        if last == Some(Effect::Refresh) {
            model.take(snapshot(model.wanted(), 9));
        }
    }
    last
}

/// The keys that type a text.
pub(super) fn typed(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}
