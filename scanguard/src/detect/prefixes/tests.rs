use std::net::Ipv6Addr;

use scanguard_common::oracle::Reach;

use super::*;
use crate::content::salt::Salt;
use crate::detect::{
    Confidence,
    findings::{EventKind, Finding},
    rules::testing::Script,
};

/// The /64 number `n` of 2001:db8::/32, with an interface of its own.
fn network(n: u32) -> Address {
    Address::from_v6(&Ipv6Addr::from((0x2001_0db8 << 96) | (u128::from(n) << 64) | 0x5054).octets())
}

/// The number of the /64 that comes as the `n`th if a scan goes through all of a /48 in no order.
fn shuffled(n: u16) -> u32 {
    u32::from(n.wrapping_mul(40_503).wrapping_add(17))
}

/// The prefixes that were found, each with the last state of its finding.
fn found(script: &mut Script) -> Vec<(String, Finding)> {
    let mut all: Vec<(String, Finding)> = Vec::new();
    for event in script.events() {
        let Some(bits) = event.finding.bits else {
            continue;
        };
        let name = format!("{}/{bits}", event.finding.source.to_ip());
        match all.iter_mut().find(|(_, finding)| finding.id == event.finding.id) {
            Some((_, finding)) => *finding = event.finding,
            None => all.push((name, event.finding)),
        }
    }
    all
}

fn names(script: &mut Script) -> Vec<String> {
    found(script).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn one_probe_from_each_64_of_a_48_is_a_scan_by_the_48() {
    for (ipv6_prefix, ports) in [(64, 4_000), (128, 400u16)] {
        let mut script = Script::of_prefixes(ipv6_prefix);
        // 4,000 ports in 29 minutes.
        for n in 0..ports {
            script.at(u64::from(n) * 29 * 60 / 4_000);
            script.syn_from(network(0x7_0000 + shuffled(n)), n + 1, Reach::Closed);
        }
        let found = found(&mut script);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["2001:db8:7::/48"], "{ipv6_prefix}");
        let finding = &found[0].1;
        assert_eq!((finding.rule, finding.confidence), ("prefix_scan", Confidence::Medium));
        assert!(finding.sources.count > u64::from(ports) / 5, "{:?}", finding.sources);
        let others: Vec<_> =
            script.events().into_iter().filter(|event| event.finding.bits.is_none()).collect();
        assert_eq!(others, [], "no campaign, and no other finding");
    }
}

#[test]
fn sources_that_are_a_48_are_found_by_other_rules_and_only_a_32_is_wider() {
    let mut script = Script::of_prefixes(48);
    for n in 0..400u16 {
        script.at(u64::from(n)).syn_from(network((u32::from(n) % 200) << 16), n + 1, Reach::Closed);
    }
    assert_eq!(names(&mut script), ["2001:db8::/32"]);
}

#[test]
fn the_narrowest_prefix_that_explains_it_is_the_source() {
    let mut script = Script::of_prefixes(64);
    for n in 0..200u16 {
        script.at(u64::from(n)).syn_from(network(0x7_4200 + u32::from(n)), n + 1, Reach::Closed);
    }
    assert_eq!(names(&mut script), ["2001:db8:7:4200::/56"]);
}

#[test]
fn a_64_is_the_source_if_its_addresses_are_counted_one_by_one() {
    let mut script = Script::of_prefixes(128);
    for n in 1..=200u16 {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 7, 9, 0, 0, 0, n);
        script.at(u64::from(n)).syn_from(Address::from_v6(&address.octets()), n, Reach::Closed);
    }
    assert_eq!(names(&mut script), ["2001:db8:7:9::/64"]);
}

#[test]
fn a_source_that_scans_alone_is_no_scan_by_its_prefix() {
    let mut script = Script::of_prefixes(64);
    for n in 0..400u16 {
        script.at(u64::from(n) / 4).syn_from(network(0x7_4200), n + 1, Reach::Closed);
        // Others of the same site each fail once, at the same service.
        script.syn_from(network(0x7_0000 + u32::from(n)), 25, Reach::Closed);
    }
    assert_eq!(names(&mut script), [""; 0]);
}

#[test]
fn several_narrower_prefixes_that_scan_are_explained_by_the_one_around_them() {
    let mut script = Script::of_prefixes(64);
    for n in 0..4_000u16 {
        script.at(u64::from(n) / 3).syn_from(network(0x7_0000 + u32::from(n)), n + 1, Reach::Closed);
    }
    let found = names(&mut script);
    assert_eq!(found.last().map(String::as_str), Some("2001:db8:7::/48"), "{found:?}");
    assert!(found.len() <= 9, "no more than 8 of its 16 prefixes were told of before: {found:?}");
}

#[test]
fn sources_with_findings_of_their_own_are_a_finding_of_their_prefix() {
    let mut script = Script::of_prefixes(64);
    for n in 0..104 {
        let source = network(0x7_4200 + n);
        script.at(u64::from(n)).visit_from(source);
        for port in [81, 82, 83] {
            script.probe_from(source, ProbeClass::Null, port, Reach::Closed);
        }
    }
    assert_eq!(names(&mut script), ["2001:db8:7:4200::/56"]);
}

#[test]
fn a_prefix_is_proven_to_scan_if_enough_of_its_findings_are_and_nearly_all_is_scan() {
    let source = |n| Prefix::around(network(n), 0).address;
    for (visitors, expected) in [(0, Proof::Connection), (12, Proof::None)] {
        let mut prefixes = Prefixes::new(Settings::default());
        prefixes.set_salt(Salt(1));
        let mut tracker = Tracker::new(crate::detect::settings::Settings::default());
        for n in 0..32 {
            prefixes.found(source(n), Proof::Connection, Duration::ZERO);
        }
        let delta = Delta { activity: visit(), samples: Default::default() };
        for n in 100..100 + visitors {
            prefixes.note(source(n), &delta, false, Duration::ZERO);
        }
        let now = Now { at: Duration::ZERO, wall: jiff::Timestamp::UNIX_EPOCH };
        let mut told = Vec::new();
        prefixes.tick(&mut tracker, now, &mut |event| told.push(event.finding));
        let [finding] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!((finding.bits, finding.proof()), (Some(56), expected), "{visitors} visitors");
        // Their number is estimated.
        let (count, reason) = finding.reason.split_once(' ').expect("a number of sources");
        assert!((28..=36).contains(&count.parse::<u32>().expect("a number")), "{}", finding.reason);
        let expected = "sources or narrower prefixes of one /56 are findings of their own";
        assert!(reason.starts_with(expected), "{}", finding.reason);
    }
}

/// The activity of a client that is served.
fn visit() -> Activity {
    let mut script = Script::of_prefixes(64);
    script.visit_from(network(1));
    script.events();
    let history = script.history(network(1)).expect("it was seen");
    history.window(Duration::from_secs(1), Duration::MAX).activity
}

#[test]
fn a_prefix_with_mostly_honest_clients_is_never_the_source() {
    for (visitors, expected) in [(0, 1), (20, 1), (100, 0), (2_000, 0)] {
        let mut script = Script::of_prefixes(64);
        for n in 0..visitors {
            script.at(u64::from(n) / 10).visit_from(network(0x7_0000 + n * 7));
        }
        for n in 0..150u16 {
            script.at(200 + u64::from(n)).syn_from(
                network(0x7_8000 + u32::from(n) * 31),
                n + 1,
                Reach::Closed,
            );
        }
        assert_eq!(names(&mut script).len(), expected, "{visitors} visitors");
    }
}

#[test]
fn a_wide_prefix_takes_more_and_is_certain_only_if_nearly_all_is_scan() {
    // The sources are in as many sites of one provider, so that no narrower prefix has two of them.
    let spread = |sources: u16, visitors: u32| {
        let mut script = Script::of_prefixes(64);
        for n in 0..visitors {
            script.at(1).visit_from(network(n << 16 | 1));
        }
        for n in 0..sources {
            script.at(2 + u64::from(n)).syn_from(network((1_000 + u32::from(n)) << 16), n + 1, Reach::Closed);
        }
        found(&mut script).into_iter().map(|(name, finding)| (name, finding.confidence)).collect::<Vec<_>>()
    };
    assert_eq!(spread(120, 0), [], "enough for a /48, not for a /32");
    let provider = "2001:db8::/32".to_owned();
    assert_eq!(spread(500, 0), [(provider.clone(), Confidence::Medium)]);
    assert_eq!(spread(500, 100), [(provider, Confidence::Low)], "told, but not acted upon");
    assert_eq!(spread(500, 600), []);
}

#[test]
fn clients_that_look_for_one_service_that_is_down_are_none() {
    let mut script = Script::of_prefixes(64);
    for n in 0..2_000u32 {
        script.at(u64::from(n) / 4).syn_from(network(0x7_0000 + n), 443, Reach::Closed);
    }
    assert_eq!(names(&mut script), [""; 0]);
}

#[test]
fn thousands_of_prefixes_take_bounded_memory_and_hide_no_scan() {
    let mut prefixes = Prefixes::new(Settings::default());
    let mut tracker = Tracker::new(crate::detect::settings::Settings::default());
    let mut activity = Activity::NONE;
    let mut script = Script::of_prefixes(64);
    script.syn_from(network(1), 1, Reach::Closed);
    script.events();
    if let Some(history) = script.history(network(0x0001)) {
        activity = history.window(Duration::from_secs(1), Duration::MAX).activity;
    }
    assert_eq!(Conduct::of(&activity), Conduct::Odd);
    let delta = Delta { activity, samples: Default::default() };
    let now = |second| Now {
        at: Duration::from_secs(second),
        wall: jiff::Timestamp::UNIX_EPOCH + Duration::from_secs(second),
    };
    for second in 0..20u64 {
        for n in 0..1_000u32 {
            // A thousand sites of one provider, and as many sources from anywhere.
            prefixes.note(network(n << 16), &delta, false, now(second).at);
            let anywhere = u128::from(Salt(second).hash_one(n)) << 64;
            let anywhere = Address::from_v6(&Ipv6Addr::from(0x2 << 124 | anywhere >> 4).octets());
            prefixes.note(anywhere, &delta, false, now(second).at);
        }
        prefixes.tick(&mut tracker, now(second), &mut |_| {});
        assert!(prefixes.suspects.len() <= MAX_SUSPECTS, "{}", prefixes.suspects.len());
    }
    assert!(prefixes.left_out() > 0);
    let around_all = Prefix::around(network(0), 3);
    assert!(prefixes.suspects.contains_key(&around_all), "it has more sources than any other");
    for second in [4_000, 8_000] {
        prefixes.tick(&mut tracker, now(second), &mut |_| {});
    }
    assert!(prefixes.suspects.is_empty() && prefixes.honest.is_empty(), "all of it is old");
}

#[test]
fn a_finding_ends_and_its_evidence_is_not_told_again() {
    let mut script = Script::of_prefixes(64);
    for n in 0..200u16 {
        script.at(u64::from(n)).syn_from(network(0x7_4200 + u32::from(n)), n + 1, Reach::Closed);
    }
    script.at(600).syn_from(network(0x7_4299), 300, Reach::Closed);
    script.at(700);
    let kinds: Vec<_> = script.events().iter().map(|event| event.kind).collect();
    let opened = kinds.iter().filter(|kind| **kind == EventKind::Opened).count();
    assert_eq!((opened, kinds.last()), (1, Some(&EventKind::Closed)));
}
