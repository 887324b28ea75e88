//! Datagrams that nobody answered, in captures that show what is answered.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        captures::{ETHERNET, Timed, pcap},
        frames::udp,
    },
    tables::answers::turned,
};
use serde_json::Value;

use crate::{
    filtered::{ip, with_a_client},
    library::{Replayed, replay_at, software},
    trial,
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// A capture, and the rules that find something in it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) packets: Vec<Timed>,
    rules: &'static [&'static str],
}

pub(crate) fn trials() -> Vec<Trial> {
    let trials = cases().into_iter().map(|case| {
        trial(&format!("silence: {}", case.name), move || {
            case.check(&[])?;
            case.check(&["198.51.0.0/16".parse()?, "224.0.0.0/4".parse()?])
        })
    });
    trials.chain([trial("silence: without answers in the capture it says nothing", one_direction)]).collect()
}

impl Case {
    fn check(&self, ours: &[IpNet]) -> Result<()> {
        let Replayed { lines, summary, .. } = replay_at(ours, &[&pcap(ETHERNET, &self.packets)], software())?;
        let mut rules = BTreeSet::new();
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line)?;
            ensure!(event["confidence"] == "low", "silence proves little: {event}");
            rules.insert(event["rule"].as_str().context("a rule")?.to_owned());
        }
        let expected = self.rules.iter().map(|rule| (*rule).to_owned()).collect();
        ensure!(rules == expected, "{rules:?} with {ours:?}: {summary}");
        Ok(())
    }
}

/// A datagram to a service of a host.
#[derive(Clone, Copy)]
struct Question {
    at: u64,
    from: u16,
    host: u32,
    port: u16,
    answered: bool,
}

impl Question {
    fn packets(self) -> Vec<Timed> {
        let Self { at, from, host, port, answered } = self;
        let mut packets = vec![Timed::new(at, ip(17, None, host, &udp(from, port, &[7; 40])))];
        if answered {
            // The addresses are turned with the frame.
            packets.push(Timed::new(at + 20, turned(ip(17, None, host, &udp(port, from, &[7; 40])))));
        }
        packets
    }
}

/// So many questions, one each so many milliseconds, with an honest client of another service beside them.
fn asked(count: u32, pace: u64, question: impl Fn(u32) -> (u32, u16, bool)) -> Vec<Timed> {
    let questions = (0..count).flat_map(|number| {
        let (host, port, answered) = question(number);
        let from = 40_000 + u16::try_from(number % 20_000).unwrap_or_default();
        Question { at: u64::from(number) * pace, from, host: 100 + host, port, answered }.packets()
    });
    with_a_client(questions.collect())
}

/// Each of these again after a second, as scanners do it.
fn twice(packets: Vec<Timed>) -> Vec<Timed> {
    let again = packets.iter().filter(|packet| packet.frame.get(23) == Some(&17));
    let again: Vec<_> =
        again.map(|packet| Timed { at: packet.at + SECOND * 1_000, ..packet.clone() }).collect();
    let mut all = [packets, again].concat();
    all.sort_by_key(|packet| packet.at);
    all
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, rules, packets| Case { name, packets, rules };
    vec![
        case(
            "ten hosts asked for one UDP service within 25 minutes are a scan",
            &["slow_scan"],
            asked(10, 150 * SECOND, |host| (host, 111, false)),
        ),
        case(
            "a sweep of a network for SNMP is found",
            &["udp_scan"],
            twice(asked(60, 100, |host| (host, 161, false))),
        ),
        case(
            "many UDP ports of one host are a scan",
            &["udp_scan"],
            twice(asked(100, 200, |number| (0, 200 + u16::try_from(number).unwrap_or_default(), false))),
        ),
        case("half as many are not", &[], asked(20, 100, |host| (host, 161, false))),
        case(
            "QUIC to a closed port by forty clients of one address",
            &[],
            asked(120, 500, |_| (0, 443, false)),
        ),
        case("QUIC to sixty hosts behind a filter", &[], asked(60, 500, |host| (host, 443, false))),
        case(
            "a client of three name servers, of which one is dead",
            &[],
            asked(300, SECOND, |number| (number % 3, 53, number % 3 != 0)),
        ),
        case(
            "a resolver whose line is cut asks a hundred name servers",
            &[],
            asked(100, 300, |host| (host, 53, false)),
        ),
        case(
            "ten hosts asked for the time, of which half are dead",
            &[],
            asked(60, MINUTE, |number| (number % 10, 123, number % 2 == 0)),
        ),
        case(
            "forty devices asked by SNMP, of which half are dead",
            &[],
            asked(200, SECOND, |number| (number % 40, 161, number % 2 == 0)),
        ),
        case(
            "a spooler asks twelve printers that are gone, again and again",
            &[],
            asked(72, MINUTE, |number| (number % 12, 161, false)),
        ),
        case(
            "messages to twenty collectors (syslog)",
            &[],
            asked(400, SECOND, |number| (number % 20, 514, false)),
        ),
        case(
            "numbers to twenty collectors (StatsD)",
            &[],
            asked(400, SECOND, |number| (number % 20, 8_125, false)),
        ),
        case(
            "flows to twenty collectors (NetFlow)",
            &[],
            asked(400, SECOND, |number| (number % 20, 2_055, false)),
        ),
        case(
            "thirty WireGuard peers that are gone",
            &[],
            asked(300, SECOND, |number| (number % 30, 51_820, false)),
        ),
        case(
            "thirty STUN servers that are gone",
            &[],
            asked(60, SECOND, |number| (number % 30, 3_478, false)),
        ),
        case(
            "two hundred peers of a DHT that are gone",
            &[],
            asked(200, 200, |host| {
                (host, u16::try_from(1_024 + host * 317 % 64_000).unwrap_or_default(), false)
            }),
        ),
        case("a server of TFTP that is down", &[], asked(100, SECOND, |_| (0, 69, false))),
        case("questions to all (mDNS, SSDP)", &[], to_groups()),
    ]
}

fn to_groups() -> Vec<Timed> {
    let offset = Ipv4Addr::new(224, 0, 0, 251).to_bits().wrapping_sub(Ipv4Addr::new(198, 51, 0, 0).to_bits());
    asked(100, SECOND, move |number| {
        (offset - 100 + number % 50, [5_353, 1_900, 111][number as usize % 3], false)
    })
}

fn one_direction() -> Result<()> {
    let packets: Vec<_> = (0..100u32)
        .flat_map(|host| {
            let at = u64::from(host) * 100;
            Question { at, from: 40_000, host: 100 + host, port: 161, answered: false }.packets()
        })
        .collect();
    let Replayed { lines, summary, .. } = replay_at(&[], &[&pcap(ETHERNET, &packets)], software())?;
    ensure!(lines.is_empty(), "{lines}");
    ensure!(summary.contains("probes: 100 (100 udp)"), "{summary}");
    Ok(())
}
