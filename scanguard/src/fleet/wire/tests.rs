use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn nets() -> impl Strategy<Value = IpNet> {
    let v4 = (1u8..223, any::<[u8; 3]>())
        .prop_map(|(first, [a, b, c])| IpNet::new(Ipv4Addr::new(first, a, b, c).into(), 32).unwrap());
    let v6 = (any::<u64>(), 32u8..=128).prop_map(|(bits, length)| {
        let address = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(bits) << 32);
        IpNet::new(address.into(), length).unwrap().trunc()
    });
    prop_oneof![v4, v6]
}

fn items() -> impl Strategy<Value = Asked> {
    let fates = prop::sample::select(Met::ALL.to_vec());
    (any::<[u8; 4]>(), any::<u8>(), any::<u16>(), prop::option::of(fates))
        .prop_map(|(address, protocol, port, met)| Asked(address.into(), protocol, port, Fate(met)))
}

prop_compose! {
    fn sightings()(
        source in nets(),
        age in 0u64..1 << 40,
        items in prop::collection::vec(items(), 0..=MAX_ITEMS),
        completed in any::<bool>(),
        proven in any::<bool>(),
        class in "[a-z_]{0,12}",
        tool in "[a-z]{0,12}",
    ) -> Sighting {
        Sighting { source, age, class, items, completed, proven, tool }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(sighting in sightings(), boot in any::<u64>(), n in any::<u64>()) {
        let partition = partition(sighting.source);
        let own = vec!["2001:db8::1".parse().unwrap()];
        let open = vec![Place("192.0.2.1".parse().unwrap(), 6, 443)];
        let batch = Batch { v: VERSION, boot, n, own, open, sightings: vec![sighting] };
        let bytes = serde_json::to_vec(&batch).unwrap();
        prop_assert_eq!(Batch::read(&bytes, partition), Ok(batch.clone()));
        let other = (partition + 1) % PARTITIONS;
        prop_assert_eq!(Batch::read(&bytes, other).map_err(|error| error.fault), Err(Fault::Partition));
        prop_assert!(partition < PARTITIONS);
    }

    #[test]
    fn what_nobody_wrote_is_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Batch::read(&bytes, 0).is_err());
        prop_assert!(Decision::read(&bytes).is_err());
    }

    #[test]
    fn every_source_has_a_subject_of_its_own(one in nets(), other in nets()) {
        let subject = decide(one);
        prop_assert_eq!(subject.split('.').count(), ALL_DECISIONS.split('.').count());
        prop_assert_eq!(one == other, decide(one) == decide(other));
    }
}

#[test]
fn sources_spread_over_all_partitions() {
    let mut counts = [0usize; PARTITIONS as usize];
    for low in 0..=u16::MAX {
        let [a, b] = low.to_be_bytes();
        counts[usize::from(partition(IpNet::new(Ipv4Addr::new(198, 51, a, b).into(), 32).unwrap()))] += 1;
    }
    let expected = (usize::from(u16::MAX) + 1) / usize::from(PARTITIONS);
    assert!(counts.iter().all(|count| count.abs_diff(expected) < expected / 4), "{counts:?}");
}

#[test]
fn the_partition_of_a_source_is_the_same_in_every_release() {
    let of = |net: &str| partition(net.parse().unwrap());
    assert_eq!([of("192.0.2.7/32"), of("198.51.100.1/32"), of("2001:db8::/64")], PINNED);
}

/// As version 1 has them.
const PINNED: [u8; 3] = [0, 14, 9];

#[test]
fn a_later_version_may_say_more() {
    let later = br#"{"v":2,"boot":1,"n":2,"mood":"fine","s":[{"s":"192.0.2.7/32","i":[["192.0.2.1",6,22,"tarpit"]],"x":1}]}"#;
    let read = Batch::read(later, partition("192.0.2.7/32".parse().unwrap())).unwrap();
    assert_eq!(read.sightings[0].items[0].3, Fate(None));
    assert_eq!(read.id("edge-1"), "edge-1.0000000000000001.2");
}

#[test]
fn wrong_messages_say_what_is_wrong() {
    let many = |what: &str, count: usize| {
        format!(r#"{{"v":1,"boot":1,"n":1,"{what}":[{}]}}"#, vec![r#""192.0.2.1""#; count].join(","))
    };
    let source = |net: &str| format!(r#"{{"v":1,"boot":1,"n":1,"s":[{{"s":"{net}"}}]}}"#);
    let large = format!("{{\"v\":1,\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for (text, fault) in [
        ("".to_owned(), Fault::Form),
        ("[]".to_owned(), Fault::Form),
        (r#"{"v":0,"boot":1,"n":1}"#.to_owned(), Fault::Form),
        (r#"{"boot":1,"n":1}"#.to_owned(), Fault::Form),
        (r#"{"v":1,"boot":-1,"n":1}"#.to_owned(), Fault::Form),
        (many("own", MAX_NAMED + 1), Fault::Many),
        (source("0.0.0.0/0"), Fault::Form),
        (source("192.0.2.0/24"), Fault::Form),
        (source("2001:db8::1/64"), Fault::Form),
        (source("224.0.0.1/32"), Fault::Form),
        (large, Fault::Large),
    ] {
        let read = Batch::read(text.as_bytes(), 0).map_err(|error| error.fault);
        assert_eq!(read, Err(fault), "{}", &text[..text.len().min(100)]);
    }
}

#[test]
fn the_speaker_is_the_last_token_and_nothing_else() {
    assert_eq!(speaker("sg.v1.sight.3.edge-1"), Ok("edge-1"));
    assert_eq!(speaker(&find(3, "edge-1")), Ok("edge-1"));
    for wrong in ["sg.v1.sight.3", "sg.v1.sight.3.a.b", "sg.v1.sight.3.", "sg.v1.out.3.a", "sg.v1.sight.3.*"]
    {
        assert_eq!(speaker(wrong).map_err(|error| error.fault), Err(Fault::Subject), "{wrong}");
    }
}

#[test]
fn findings_are_short_and_of_their_partition() {
    let source: IpNet = "192.0.2.7/32".parse().unwrap();
    let finding = Reported {
        id: "x-1".to_owned(),
        source,
        age: 5,
        rule: "vertical_scan".to_owned(),
        event: "opened".to_owned(),
        severity: "high".to_owned(),
        confidence: "medium".to_owned(),
        proven: true,
        sources: 0,
        size: 100,
    };
    let read = |findings: Vec<Reported>, partition| {
        let report = Report { v: VERSION, findings };
        let read = Report::read(&serde_json::to_vec(&report).unwrap(), partition);
        read.map(|read| read == report).map_err(|error| error.fault)
    };
    assert_eq!(read(vec![finding.clone()], partition(source)), Ok(true));
    assert_eq!(read(vec![finding.clone()], partition(source) + 1), Err(Fault::Partition));
    assert_eq!(read(vec![finding.clone(); MAX_FINDINGS + 1], partition(source)), Err(Fault::Many));
    let long = Reported { rule: "x".repeat(100), ..finding.clone() };
    assert_eq!(read(vec![long], partition(source)), Err(Fault::Form));
    let odd = Reported { source: "192.0.2.7/24".parse().unwrap(), ..finding };
    assert_eq!(read(vec![odd], 0), Err(Fault::Form));
}

#[test]
fn decisions_are_short_plain_and_end() {
    let decision = Decision {
        v: VERSION,
        source: "192.0.2.7/32".parse().unwrap(),
        verdict: Verdict::Suspicion,
        rule: "fleet_sweep".to_owned(),
        reason: "16 members".to_owned(),
        members: 16,
        evidence: Vec::new(),
        lasts: 60_000,
        fence: 7,
    };
    let read = |decision: &Decision| Decision::read(&serde_json::to_vec(decision).unwrap());
    assert_eq!(read(&decision), Ok(decision.clone()));
    for wrong in [
        Decision { reason: "a\nb".to_owned(), ..decision.clone() },
        Decision { reason: "x".repeat(1_000), ..decision.clone() },
        Decision { lasts: u64::MAX, ..decision.clone() },
        Decision { source: "192.0.0.0/16".parse().unwrap(), ..decision.clone() },
    ] {
        assert!(read(&wrong).is_err(), "{wrong:?}");
    }
}
