use scanguard_common::{oracle::Reach, outcome::ProbeClass};

use crate::detect::{
    findings::{EventKind, Finding},
    rules::testing::{Script, tcp},
};

fn campaigns(script: &mut Script) -> Vec<Finding> {
    let opened = script.events().into_iter().filter(|event| event.kind == EventKind::Opened);
    opened.map(|event| event.finding).filter(|finding| finding.rule == "distributed_scan").collect()
}

#[test]
fn sources_that_divide_the_services_of_a_host_are_one_campaign() {
    let mut script = Script::all_rules();
    for port in 1..=100u16 {
        let source = u8::try_from(port % 20).unwrap() + 1;
        script.at(u64::from(port) / 2).syn(source, 1, port);
    }
    let found = campaigns(&mut script);
    assert_eq!(found.len(), 1);
    assert!(found[0].sources.count >= 5 && !found[0].sources.examples.is_empty());
    assert!(found[0].reason.contains("sources share the work"), "{}", found[0].reason);
}

#[test]
fn sources_that_divide_the_addresses_of_a_service_are_one_campaign() {
    let mut script = Script::all_rules();
    for host in 0..120u8 {
        script.at(u64::from(host) / 2).probe_met(host % 15 + 1, ProbeClass::Syn, host, tcp(22), Reach::Dark);
    }
    assert_eq!(campaigns(&mut script).len(), 1);
}

#[test]
fn background_noise_is_none() {
    let mut script = Script::all_rules();
    let mut random = 12_345u32;
    for second in 0..1_200u64 {
        for source in 0..2 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let port = match random >> 29 {
                // One in eight tries a port of its own.
                0 => u16::try_from(random >> 8 & 0xffff).unwrap(),
                n => [22, 23, 80, 443, 445, 3389, 8080][n as usize - 1],
            };
            let source = u8::try_from((second * 2 + source) % 251).unwrap();
            script.at(second).syn(source, 1, port);
        }
    }
    assert_eq!(campaigns(&mut script), []);
}

#[test]
fn decoys_are_none() {
    let mut script = Script::all_rules();
    for port in 1..=100 {
        for source in 1..=8 {
            script.at(u64::from(port) / 2).syn(source, 1, port);
        }
    }
    assert_eq!(campaigns(&mut script), []);
}

#[test]
fn clients_of_many_services_are_none() {
    let mut script = Script::all_rules();
    for second in 0..300u64 {
        for source in 1..=50u8 {
            script.at(second).open(source, 1, 1_000 + u16::from(source) % 10);
        }
    }
    assert_eq!(campaigns(&mut script), []);
}
