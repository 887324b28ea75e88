//! Probes that were never answered, in captures that show what is answered.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard::replay::step::{Kind, Step};
use scanguard_common::wire::tcp_flags::{ACK, PSH, SYN};
use scanguard_tests::{
    fixtures::{
        captures::{ETHERNET, Timed, pcap},
        frames::{SOURCE, V4, tcp, v4_with},
    },
    tables::answers::{from_port, turned},
};
use serde_json::Value;

use crate::{
    library::{Replayed, replay_at, software},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let found = |name: &str, packets: fn() -> Vec<Timed>| {
        trial(&format!("filtered: {name}"), move || {
            for ours in [vec![], vec!["198.51.0.0/16".parse::<IpNet>()?]] {
                check(&ours, &with_a_client(packets()))?;
            }
            Ok(())
        })
    };
    vec![
        found("7,307 addresses of a network within 72 hours are a scan", one_each_34_seconds),
        found("29 ports of a host within 3 seconds are a scan", ports_of_a_host),
        trial("filtered: in one direction, clients that go on show which SYNs were answered", one_direction),
        trial("filtered: SYNs alone do not show what was answered", syns_alone),
    ]
}

/// The packets that arrived, of a scan of twelve ports and of clients of twelve addresses.
fn arrived() -> Vec<Timed> {
    let scan =
        (1..=12u16).map(|port| Timed::new(u64::from(port) * 500, ip(6, None, 9, &tcp(SYN, port * 37))));
    let clients = (1..=4u8).flat_map(|last| {
        let client = Some(Ipv4Addr::new(203, 0, 113, last));
        (0..12u32).flat_map(move |host| {
            let start = u64::from(host) * 500 + u64::from(last);
            [SYN, ACK, PSH | ACK].into_iter().zip(0..).map(move |(flags, place)| {
                Timed::new(start + place * 20, ip(6, client, 20 + host, &tcp(flags, 443)))
            })
        })
    });
    let mut packets: Vec<_> = scan.chain(clients).collect();
    packets.sort_by_key(|packet| packet.at);
    packets
}

fn one_direction() -> Result<()> {
    let Replayed { lines, summary, .. } = replay_at(&[], &[&pcap(ETHERNET, &arrived())], software())?;
    ensure!(summary.contains("a SYN was answered if its sender went on"), "{summary}");
    let events: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(!events.is_empty(), "nothing is found: {summary}");
    for event in events {
        ensure!(event["source"]["ip"] == SOURCE.to_string() && event["one_direction"] == true, "{event}");
    }
    Ok(())
}

fn syns_alone() -> Result<()> {
    let is_syn = |packet: &Timed| Step::read(&packet.frame).is_some_and(|step| step.kind == Kind::Opening);
    let syns: Vec<_> = arrived().into_iter().filter(is_syn).collect();
    let Replayed { lines, summary, .. } = replay_at(&[], &[&pcap(ETHERNET, &syns)], software())?;
    ensure!(summary.contains("unanswered probes count as unknown") && lines.is_empty(), "{lines}: {summary}");
    Ok(())
}

/// Somebody is found, and it is the scanner.
fn check(ours: &[IpNet], packets: &[Timed]) -> Result<()> {
    let Replayed { lines, summary, .. } = replay_at(ours, &[&pcap(ETHERNET, packets)], software())?;
    ensure!(!summary.contains("only one direction"), "{summary}");
    ensure!(!lines.is_empty(), "nothing is found with {ours:?}: {summary}");
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        ensure!(event["source"]["ip"] == SOURCE.to_string(), "{event}");
    }
    Ok(())
}

pub(crate) fn ip(protocol: u8, source: Option<Ipv4Addr>, host: u32, payload: &[u8]) -> Vec<u8> {
    let destination = Some(Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 0, 0).to_bits() + host));
    v4_with(&V4 { protocol, source, destination, ..V4::default() }, payload)
}

/// An honest client has a connection once a minute, as long as it lasts: the capture shows both directions.
pub(crate) fn with_a_client(packets: Vec<Timed>) -> Vec<Timed> {
    let (first, last) = packets
        .iter()
        .fold((u64::MAX, 0), |(first, last), packet| (first.min(packet.at), last.max(packet.at)));
    let client = Some(Ipv4Addr::new(203, 0, 113, 5));
    let steps = [(false, SYN), (true, SYN | ACK), (false, ACK), (false, PSH | ACK), (true, PSH | ACK)];
    let mut all = packets;
    for start in (first..=last).step_by(60_000_000) {
        for (place, (is_answer, flags)) in (0..).zip(steps) {
            let segment = if is_answer { from_port(flags, 443) } else { tcp(flags, 443) };
            let frame = ip(6, client, 7, &segment);
            let frame = if is_answer { turned(frame) } else { frame };
            all.push(Timed { at: start + place * 1_000, ..Timed::new(0, frame) });
        }
    }
    all.sort_by_key(|packet| packet.at);
    all
}

fn ports_of_a_host() -> Vec<Timed> {
    (1..=29u16).map(|port| Timed::new(u64::from(port) * 100, ip(6, None, 9, &tcp(SYN, port * 37)))).collect()
}

fn one_each_34_seconds() -> Vec<Timed> {
    // In no order, as scanners do it.
    let host = |number: u32| number.wrapping_mul(40_503) % 65_536;
    (0..7_307)
        .map(|number| Timed::new(u64::from(number) * 34_000, ip(6, None, host(number), &tcp(SYN, 23))))
        .collect()
}
