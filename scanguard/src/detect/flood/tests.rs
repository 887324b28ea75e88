use std::net::Ipv4Addr;

use scanguard_common::wire::protocol;

use super::*;
use crate::detect::{
    Detector,
    findings::{EventKind, Finding, Spoofable},
    rules, settings,
};

/// The traffic of each second: probes of a class with this reach, the number of new sources, and completed handshakes.
#[derive(Clone, Copy)]
struct Second {
    class: ProbeClass,
    reach: Reach,
    probes: u64,
    new: u64,
    completions: u64,
}

const FORGED: Second =
    Second { class: ProbeClass::Syn, reach: Reach::Open, probes: 5_000, new: 5_000, completions: 0 };

/// The findings that open within a minute of such seconds.
fn opened(second: Second, sees_handshakes: bool) -> Vec<Finding> {
    let mut detector = Detector::new(rules::Settings::default().rules(), settings::Settings::default());
    let mut found = Vec::new();
    let sample = Sample {
        host: Ipv4Addr::new(198, 51, 100, 1).into(),
        port: 80,
        protocol: protocol::TCP,
        taken: 1,
        epoch: 1,
    };
    for at in 1..=60 {
        let mut delta = Tally::ZERO;
        delta.probes[second.class.index()] = second.probes;
        delta.reached[second.reach as usize] = second.probes;
        delta.inserted = second.new / 10;
        delta.exits[Exit::AtTheDoor.index()] = second.new - second.new / 10;
        delta.completions = second.completions;
        let now = Now { at: Duration::from_secs(at), wall: jiff::Timestamp::UNIX_EPOCH };
        detector.see_all(Arrived { delta: &delta, samples: &[sample], sees_handshakes }, now, &mut |event| {
            if event.kind == EventKind::Opened {
                found.push(event.finding);
            }
        });
        detector.tick(now, &mut |_| {});
    }
    found
}

fn rules_of(second: Second) -> Vec<&'static str> {
    opened(second, true).iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_flood_of_forged_sources_is_one_finding_without_a_source() {
    let found = opened(FORGED, true);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((finding.rule, finding.source), ("flood", Address::UNSPECIFIED));
    assert_eq!(
        (finding.spoofable, finding.techniques),
        (Spoofable::Yes, &[Technique::NetworkDenialOfService][..])
    );
    assert!(finding.sources.count >= 5_000 && finding.sources.examples.is_empty(), "{:?}", finding.sources);
    assert!(finding.reason.starts_with("syn flood: ") && finding.targets.len() == 1, "{finding:?}");
}

#[test]
fn many_clients_at_once_are_none() {
    assert_eq!(rules_of(Second { completions: 1_000, ..FORGED }), [""; 0]);
}

#[test]
fn few_sources_however_many_packets_they_send_are_none() {
    assert_eq!(rules_of(Second { new: 900, ..FORGED }), [""; 0]);
    assert_eq!(rules_of(Second { probes: 100_000, ..FORGED }), [""; 0]);
}

#[test]
fn clients_of_others_whose_connections_are_not_seen_are_none() {
    assert_eq!(rules_of(Second { reach: Reach::Unknown, ..FORGED }), [""; 0]);
    assert_eq!(opened(FORGED, false), []);
    // Nobody pings a host from a thousand new addresses a second.
    let pings = Second { class: ProbeClass::IcmpEcho, reach: Reach::Unknown, ..FORGED };
    assert_eq!(rules_of(pings), ["flood"]);
}

#[test]
fn answers_to_what_nobody_asked_are_backscatter() {
    let answers =
        Second { class: ProbeClass::SynAck, reach: Reach::Closed, probes: 20, new: 20, completions: 0 };
    assert_eq!(rules_of(answers), ["backscatter"]);
    assert_eq!(rules_of(Second { probes: 5_000, new: 5_000, ..answers }), ["backscatter"]);
    assert_eq!(rules_of(Second { probes: 5, new: 5, ..answers }), [""; 0]);
}
