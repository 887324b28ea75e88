//! Turns a finding into an alert of CrowdSec. Pure.

use std::collections::HashMap;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cidr,
    detect::findings::{Event, EventKind, Finding},
};

/// The prefix of our scenarios.
pub const AUTHOR: &str = "scanguard/";

/// The scenario of a rule's findings on a machine. The machine is part of it, because a decision that comes back has
/// its scenario, but not its author.
pub fn scenario(rule: &str, machine: &str) -> String {
    format!("{AUTHOR}{rule}@{machine}")
}

/// Whether a scenario belongs to this machine.
pub fn is_own(scenario: &str, machine: &str) -> bool {
    let pushed_by = scenario.strip_prefix(AUTHOR).and_then(|rest| rest.rsplit_once('@'));
    pushed_by.is_some_and(|(_, by)| by == machine)
}

/// An alert in the form of `POST /v1/alerts`. It has all fields that the Local API requires, even those that mean
/// nothing here.
#[derive(Clone, Debug, Serialize)]
pub struct Alert {
    scenario: String,
    scenario_hash: &'static str,
    scenario_version: &'static str,
    message: String,
    events_count: i32,
    start_at: Timestamp,
    stop_at: Timestamp,
    capacity: i32,
    leakspeed: &'static str,
    simulated: bool,
    /// Whether profiles should make a decision about it.
    remediation: bool,
    labels: Vec<&'static str>,
    source: Source,
    events: [Evidence; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Source {
    scope: &'static str,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_name: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Evidence {
    timestamp: Timestamp,
    meta: Vec<Meta>,
}

#[derive(Clone, Debug, Serialize)]
struct Meta {
    key: &'static str,
    value: String,
}

/// The alert about one source of a finding.
pub fn alert(finding: &Finding, source: IpNet, remediation: bool, machine: &str) -> Alert {
    let (confidence, spoofable) = finding.known();
    let name = cidr::name(source);
    let is_host = source.prefix_len() == source.max_prefix_len();
    // For a campaign, the country of each source is not known.
    let origin = (finding.sources.count == 0).then_some(&finding.origin);
    let network = origin.and_then(|origin| origin.network.as_ref());
    let targets: Vec<_> = finding
        .targets
        .iter()
        .map(|target| match target.port {
            Some(port) => format!("{} port {port} protocol {}", target.ip, target.protocol),
            None => format!("{} protocol {}", target.ip, target.protocol),
        })
        .collect();
    let meta = [
        ("finding", finding.id.clone()),
        ("severity", finding.severity.label().to_owned()),
        ("confidence", confidence.label().to_owned()),
        ("spoofable", spoofable.to_string()),
        ("probes", finding.probes().to_string()),
        ("services", finding.services().to_string()),
        ("addresses", finding.hosts().to_string()),
        ("targets", targets.join("; ")),
    ];
    Alert {
        scenario: scenario(finding.rule, machine),
        scenario_hash: "",
        scenario_version: "",
        message: format!("{name}: {}", finding.reason),
        events_count: i32::try_from(finding.probes()).unwrap_or(i32::MAX),
        start_at: finding.first,
        stop_at: finding.last,
        capacity: 0,
        leakspeed: "0s",
        simulated: false,
        remediation,
        labels: finding.techniques.iter().map(|technique| technique.id()).collect(),
        source: Source {
            scope: if is_host { "Ip" } else { "Range" },
            ip: is_host.then(|| name.clone()),
            range: (!is_host).then(|| name.clone()),
            value: name,
            cn: origin.and_then(|origin| origin.country.as_ref()).map(|country| country.as_str().to_owned()),
            as_number: network.map(|network| network.number.to_string()),
            as_name: network.and_then(|network| network.organization.clone()),
        },
        events: [Evidence {
            timestamp: finding.last,
            meta: meta.into_iter().map(|(key, value)| Meta { key, value }).collect(),
        }],
    }
}

/// Which open findings were pushed. Each is pushed once, and once more when it has become one with a ban. The number
/// of open findings bounds this.
#[derive(Debug, Default)]
pub struct Pushed(HashMap<String, bool>);

impl Pushed {
    /// Whether to push a finding now. `remediation`: whether this host's policy has banned its source.
    pub fn is_news(&mut self, event: &Event, remediation: bool) -> bool {
        let id = &event.finding.id;
        let before = self.0.get(id).copied();
        match event.kind {
            EventKind::Opened | EventKind::Updated => {
                self.0.insert(id.clone(), remediation || before == Some(true));
            }
            EventKind::Closed => {
                self.0.remove(id);
            }
        }
        match before {
            None => true,
            Some(pushed) => remediation && !pushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::testing::Script;

    fn events() -> Vec<Event> {
        let rules = crate::detect::rules::Settings::default().rules().rules;
        let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
        let mut script = Script::new(rule, crate::detect::settings::Settings::default());
        for port in 1..=40 {
            script.syn(7, 1, port);
        }
        script.events()
    }

    #[test]
    fn an_alert_says_who_did_what_and_why() {
        let event = events().remove(0);
        let json = |net: &str, remediation| {
            serde_json::to_value(alert(&event.finding, net.parse().unwrap(), remediation, "edge-1")).unwrap()
        };
        let one = json("192.0.2.7/32", true);
        assert_eq!(one["scenario"], "scanguard/vertical_scan@edge-1");
        assert_eq!(
            one["source"],
            serde_json::json!({ "scope": "Ip", "value": "192.0.2.7", "ip": "192.0.2.7" })
        );
        assert_eq!((&one["remediation"], &one["simulated"]), (&true.into(), &false.into()));
        assert_eq!((&one["events_count"], &one["labels"]), (&40.into(), &serde_json::json!(["T1595.002"])));
        assert!(one["message"].as_str().unwrap().starts_with("192.0.2.7: 40 syn probes"), "{one}");
        assert_eq!(one["start_at"], "1970-01-01T00:00:01Z");
        let meta = one["events"][0]["meta"].as_array().unwrap();
        let targets = meta.iter().find(|meta| meta["key"] == "targets").unwrap();
        assert!(targets["value"].as_str().unwrap().starts_with("198.51.100.1 port "), "{targets}");

        let wide = json("2001:db8::/64", false);
        assert_eq!(
            wide["source"],
            serde_json::json!({ "scope": "Range", "value": "2001:db8::/64", "range": "2001:db8::/64" })
        );
        assert_eq!(wide["remediation"], false);
    }

    #[test]
    fn only_what_this_machine_pushed_is_its_own() {
        assert!(is_own(&scenario("slow_scan", "edge-1"), "edge-1"));
        for other in
            ["scanguard/slow_scan@edge-2", "scanguard/slow_scan", "crowdsecurity/ssh-bf@edge-1", "", "edge-1"]
        {
            assert!(!is_own(other, "edge-1"), "{other}");
        }
    }

    #[test]
    fn a_finding_is_pushed_once_and_again_when_it_may_ban() {
        let opened = events().remove(0);
        let updated = Event { kind: EventKind::Updated, ..opened.clone() };
        let closed = Event { kind: EventKind::Closed, ..opened.clone() };
        let mut pushed = Pushed::default();
        let told = [
            (&opened, false),
            (&updated, false),
            (&updated, true),
            (&updated, true),
            (&updated, false),
            (&closed, true),
        ];
        let news = told.map(|(event, remediation)| pushed.is_news(event, remediation));
        assert_eq!(news, [true, false, true, false, false, false]);
        assert!(pushed.0.is_empty());
        assert!(pushed.is_news(&opened, true) && !pushed.is_news(&closed, true));
    }
}
