//! Tests of the text format and of our own JSON.

use super::*;
use crate::{
    detect::{
        geo::{Country, Network, Origin},
        rules::testing::Script,
    },
    export::writer::FindingsWriter,
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
    let json: Value = serde_json::from_str(&line).unwrap();
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
    let unknown: Value = serde_json::from_str(&line(&event, true)).unwrap();
    assert!(["country", "asn", "as_org"].iter().all(|field| unknown.get(field).is_none()), "{unknown}");
    event.finding.origin = Origin {
        country: Country::new("DE"),
        network: Some(Network { number: 64_500, organization: Some("Example".to_owned()) }),
    };
    let json: Value = serde_json::from_str(&line(&event, true)).unwrap();
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
    let json: Value = serde_json::from_str(&line(&event, true)).unwrap();
    assert_eq!(json["source"], serde_json::json!({ "ip": "2001:db8::", "prefix": 64 }));
    assert!(line(&event, false).contains(" 2001:db8::/64: "));
    // A neighbour at a link of this host, and a prefix around many sources.
    let neighbour: std::net::IpAddr = "2001:db8::5".parse().unwrap();
    for (source, bits, json_source, name) in [
        (neighbour, None, serde_json::json!({ "ip": "2001:db8::5" }), " 2001:db8::5: "),
        (prefix, Some(48), serde_json::json!({ "ip": "2001:db8::", "prefix": 48 }), " 2001:db8::/48: "),
    ] {
        (event.finding.source, event.finding.bits) = (source.into(), bits);
        let json: Value = serde_json::from_str(&line(&event, true)).unwrap();
        assert_eq!(json["source"], json_source);
        assert!(line(&event, false).contains(name), "{}", line(&event, false));
    }
}

#[test]
fn a_line_for_people_is_one_line_without_colour_where_none_is_wanted() {
    let line = line(&first_event(), false);
    assert!(
        line.starts_with("1970-01-01T00:00:01.000Z opened  medium vertical_scan T1595.002 192.0.2.7: 40 syn"),
        "{line}"
    );
    assert!(!line.contains('\x1b'));
}
