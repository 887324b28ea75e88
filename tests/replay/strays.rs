//! Segments that belong to no connection, as a capture shows them: what came, and what was answered.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard_common::wire::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use scanguard_tests::{
    fixtures::{
        captures::{ETHERNET, Timed, pcap},
        frames::{DESTINATION, DESTINATION6, V4, icmp, tcp, udp, v4, v4_packet, v4_with, v6},
    },
    tables::answers::turned,
};
use serde_json::Value;

use crate::{
    library::{Replayed, replay_at, software},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let trials = cases().into_iter().map(|case| {
        trial(&format!("strays: {}", case.name), move || {
            let ours = [IpNet::from(IpAddr::V4(DESTINATION)), IpNet::from(IpAddr::V6(DESTINATION6))];
            case.check(&[])?;
            case.check(&ours)
        })
    });
    trials
        .chain([trial("strays: those that are not answered are released, and none is lost", released)])
        .collect()
}

/// A capture, and the rules that find something in it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) packets: Vec<Timed>,
    rules: &'static [&'static str],
}

impl Case {
    fn check(&self, ours: &[IpNet]) -> Result<()> {
        let Replayed { lines, summary, error } =
            replay_at(ours, &[&pcap(ETHERNET, &self.packets)], software())?;
        ensure!(error.is_none(), "it was not read to its end");
        let rules = lines.lines().map(|line| {
            let event: Value = serde_json::from_str(line)?;
            Ok(event["rule"].as_str().context("a rule")?.to_owned())
        });
        let rules = rules.collect::<Result<BTreeSet<_>>>()?;
        ensure!(rules == self.rules.iter().map(|rule| (*rule).to_owned()).collect(), "{rules:?}: {summary}");
        Ok(())
    }
}

/// A TCP header between these ports, with a timestamp if the connection has them.
fn segment(flags: u8, from: u16, to: u16, stamped: bool) -> Vec<u8> {
    let mut header = tcp(flags, to);
    header[..2].copy_from_slice(&from.to_be_bytes());
    if stamped {
        header[12] = 8 << 4;
        header.extend([1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
    }
    header
}

fn there(at: u64, flags: u8, from: u16, to: u16) -> Timed {
    Timed::new(at, v4(6, &segment(flags, from, to, false)))
}

fn back(at: u64, flags: u8, from: u16, to: u16) -> Timed {
    Timed::new(at, turned(v4(6, &segment(flags, from, to, false))))
}

/// Each of these segments, with a RST in answer a millisecond later.
fn refused(segments: impl Iterator<Item = (u8, u16, u16)>) -> Vec<Timed> {
    let refused = |(number, (flags, from, to)): (u64, _)| {
        [there(number * 20, flags, from, to), back(number * 20 + 1, RST, to, from)]
    };
    (0..).zip(segments).flat_map(refused).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, rules, packets| Case { name, packets, rules };
    vec![
        case(
            "an ACK scan of a thousand ports is found",
            &["ack_scan"],
            refused((1..=1_000).map(|port| (ACK, 54_321, port))),
        ),
        case(
            "one with a port of its own for each segment is, too",
            &["ack_scan"],
            refused((1..=100).map(|port| (ACK, 2_000 + port, port))),
        ),
        case(
            "a Maimon scan is found",
            &["maimon_scan"],
            refused((1..=100).map(|port| (FIN | ACK, 54_321, port))),
        ),
        case(
            "a SYN+ACK scan from the port of a service is found",
            &["syn_ack_scan"],
            refused((1..=200).map(|port| (SYN | ACK, 443, port))),
        ),
        case("one over IPv6 is found", &["ack_scan"], over_ipv6()),
        case("a scan is found although as many honest clients are there", &["ack_scan"], among_clients()),
        case(
            "a server's segments to many ports of a client that has started anew are not",
            &[],
            refused((0..300).map(|number| (FIN | ACK, 443, 1_024 + number * 211))),
        ),
        case(
            "the idle connections of a client with many services of a host that has started anew are not",
            &[],
            idle_connections(),
        ),
        case("300 running connections to a service, which all end with a RST, are not", &[], running()),
        case("connections whose beginning is there, and what comes late in them, are not", &[], late()),
        case("segments to services that accept connections are not", &[], accepting()),
        case(
            "without answers nothing is known",
            &[],
            (1..=1_000u16).map(|port| there(u64::from(port) * 20, ACK, 54_321, port)).collect(),
        ),
        case("a UDP scan is found by the ICMP errors in answer", &["udp_scan"], unreachable()),
        case("a RST that comes a minute later is no answer", &[], much_later()),
    ]
}

fn over_ipv6() -> Vec<Timed> {
    let frames = |number: u16| {
        let at = u64::from(number) * 20;
        let answer = turned(v6(6, &segment(RST, number, 54_321, false)));
        [Timed::new(at, v6(6, &segment(ACK, 54_321, number, false))), Timed::new(at + 1, answer)]
    };
    (1..=100).flat_map(frames).collect()
}

/// Every second connection of the others to port 8443 began before the capture.
fn among_clients() -> Vec<Timed> {
    let mut packets = refused((1..=200).map(|port| (ACK, 54_321, port)));
    for number in 0..200u16 {
        let (at, port) = (u64::from(number) * 20, 40_000 + number);
        let client = V4 { protocol: 6, source: Some(Ipv4Addr::new(203, 0, 113, 5)), ..V4::default() };
        let there = |at, flags| Timed::new(at, v4_with(&client, &segment(flags, port, 8_443, false)));
        let back = |at, flags| Timed::new(at, turned(v4_with(&client, &segment(flags, 8_443, port, false))));
        if number % 2 == 0 {
            packets.push(there(at + 5, SYN));
            packets.push(back(at + 6, SYN | ACK));
        }
        packets.push(there(at + 7, ACK));
        packets.push(there(at + 8, PSH | ACK));
        packets.push(back(at + 9, ACK));
    }
    packets.sort_by_key(|packet| packet.at);
    packets
}

/// Each asks whether the other side is still there. The systems stamp their segments.
fn idle_connections() -> Vec<Timed> {
    let frames = |number: u16| {
        let (at, to, from) = (u64::from(number) * 20, 100 + number, 50_000 + number);
        let answer = turned(v4(6, &segment(RST, to, from, false)));
        [Timed::new(at, v4(6, &segment(ACK, from, to, true))), Timed::new(at + 1, answer)]
    };
    (1..=60).flat_map(frames).collect()
}

/// Of one client to forty services, each with an answer before the end.
fn running() -> Vec<Timed> {
    let mut packets = Vec::new();
    for number in 0..300u16 {
        let (at, port, service) = (u64::from(number) * 20, 40_000 + number, 100 + number % 40);
        packets.push(there(at, ACK, port, service));
        packets.push(back(at + 1, ACK, service, port));
        packets.push(there(at + 2, ACK, port, service));
        packets.push(back(at + 3, RST, service, port));
    }
    packets
}

/// Of one client to sixty services that answer, end, and are asked again.
fn late() -> Vec<Timed> {
    let mut packets = Vec::new();
    for number in 0..60u16 {
        let (at, port, service) = (u64::from(number) * 20, 40_000 + number, 100 + number);
        packets.push(there(at, SYN, port, service));
        packets.push(back(at + 1, SYN | ACK, service, port));
        packets.push(there(at + 2, ACK, port, service));
        packets.push(back(at + 3, RST, service, port));
        packets.push(there(at + 5_000, FIN | ACK, port, service));
        packets.push(back(at + 5_001, RST, service, port));
    }
    packets.sort_by_key(|packet| packet.at);
    packets
}

/// A client of sixty services, and then segments of connections from before the capture to the same.
fn accepting() -> Vec<Timed> {
    let mut packets = Vec::new();
    for number in 0..60u16 {
        let (at, service) = (u64::from(number) * 20, 100 + number);
        packets.push(there(at, SYN, 40_000, service));
        packets.push(back(at + 1, SYN | ACK, service, 40_000));
        packets.push(there(at + 2, ACK, 40_000, service));
        packets.push(there(at + 3, ACK, 50_000, service));
        packets.push(back(at + 4, RST, service, 50_000));
    }
    packets
}

/// 30 ports in a second. The host answers that nothing is there, and quotes what it got.
fn unreachable() -> Vec<Timed> {
    let frames = |port: u16| {
        let at = u64::from(port) * 20;
        let datagram = udp(40_000, port, &[7; 20]);
        let quote = v4_packet(&V4 { protocol: 17, ..V4::default() }, &datagram);
        let error = [icmp(3), quote[..28].to_vec()].concat();
        [Timed::new(at, v4(17, &datagram)), Timed::new(at + 1, turned(v4(1, &error)))]
    };
    (100..130).flat_map(frames).collect()
}

fn much_later() -> Vec<Timed> {
    let mut packets: Vec<_> =
        (1..=100u16).map(|port| there(u64::from(port) * 20, ACK, 54_321, port)).collect();
    packets.extend((1..=100u16).map(|port| back(60_000 + u64::from(port), RST, port, 54_321)));
    packets
}

/// All packets are counted, whether they were held for an answer, for long, or to the end.
fn released() -> Result<()> {
    let packets: Vec<_> = (1..=500u16).map(|port| there(u64::from(port) * 40, ACK, 54_321, port)).collect();
    let Replayed { lines, summary, .. } = replay_at(&[], &[&pcap(ETHERNET, &packets)], software())?;
    ensure!(lines.is_empty(), "{lines}");
    ensure!(summary.contains("other packets: 500 (500 tcp_established)\n"), "{summary}");
    ensure!(summary.contains("only one direction is seen"), "{summary}");
    let answered = refused((1..=500).map(|port| (ACK, 54_321, port)));
    let Replayed { summary, .. } = replay_at(&[], &[&pcap(ETHERNET, &answered)], software())?;
    ensure!(summary.contains("probes: 500 (500 ack)\n"), "{summary}");
    ensure!(summary.contains("  500 were answers: the other side began the flow\n"), "{summary}");
    ensure!(!summary.contains("only one direction"), "{summary}");
    Ok(())
}
