//! Scenes, which these tests' captures are made of.

use std::net::Ipv4Addr;

use etherparse::EtherType;
use scanguard_tests::{
    fixtures::{
        captures::{ETHERNET, Timed, pcap, pcapng},
        frames::{V4, fragment6, icmp, tagged, tcp, udp, v4, v4_packet, v4_with, v6},
    },
    tables::{
        answers::{from_port, turned},
        packets::table,
    },
};

const MINUTE: u64 = 60 * 1000;

/// A capture.
pub(crate) struct Scene {
    /// Its description.
    pub(crate) name: &'static str,
    /// The file.
    pub(crate) file: Vec<u8>,
}

/// All of them.
pub(crate) fn scenes() -> Vec<Scene> {
    let scene = |name, file| Scene { name, file };
    vec![
        scene("a port scan", pcap(ETHERNET, &port_scan())),
        scene("a port scan as pcapng", pcapng(ETHERNET, &port_scan())),
        scene("a port scan with its answers", pcap(ETHERNET, &answered_scan())),
        scene("a client of a service", pcap(ETHERNET, &client())),
        scene("the packet table", pcap(ETHERNET, &packet_table())),
        scene("many sources at once", pcap(ETHERNET, &many_sources())),
        scene("hours of quiet between scans", pcapng(ETHERNET, &quiet_hours())),
        scene("answers that come late", pcap(ETHERNET, &late_answers(true))),
        scene("answers that nobody asked for", pcap(ETHERNET, &late_answers(false))),
        scene("requests and their answers", pcap(ETHERNET, &requests())),
        scene("packets cut by the capture", pcap(ETHERNET, &cut())),
        scene("times that jump", pcap(ETHERNET, &jumping_times())),
        scene("raw ip", pcap(101, &raw())),
        scene("nothing", pcap(ETHERNET, &[])),
    ]
}

/// 100 ports in a second, among ordinary traffic and packets of our own.
pub(crate) fn port_scan() -> Vec<Timed> {
    (1..=100u16)
        .flat_map(|port| {
            let at = u64::from(port) * 10;
            [
                Timed::new(at, v4(6, &tcp(0x02, port))),
                Timed::new(at + 1, v4(6, &tcp(0x10, 443))),
                Timed::new(at + 2, v6(17, &udp(40_000, 53, b"query"))),
            ]
        })
        .collect()
}

/// 100 ports in a second, three of them open: each is answered.
pub(crate) fn answered_scan() -> Vec<Timed> {
    (1..=100u16)
        .flat_map(|port| {
            let at = u64::from(port) * 10;
            let answer = if port % 33 == 0 { 0x12 } else { 0x14 };
            [
                Timed::new(at, v4(6, &tcp(0x02, port))),
                Timed::new(at + 1, turned(v4(6, &from_port(answer, port)))),
            ]
        })
        .collect()
}

/// 200 connections to one service, begun and answered.
pub(crate) fn client() -> Vec<Timed> {
    (0..200u64)
        .flat_map(|number| {
            [
                Timed::new(number * 20, v4(6, &tcp(0x02, 443))),
                Timed::new(number * 20 + 1, turned(v4(6, &from_port(0x12, 443)))),
            ]
        })
        .collect()
}

/// Our host asks a resolver from 100 ports in a second (`asked`), and opens a connection from each. The answers come two
/// seconds later. In any case it asks another server for the time, so that it shows in the capture what leaves.
pub(crate) fn late_answers(asked: bool) -> Vec<Timed> {
    let answer =
        |port| [v4(17, &udp(53, port, &[7; 60])), v4(6, &tcp(0x12, port)), v6(17, &udp(53, port, b"7"))];
    let ports = || (2_000..2_100u16).map(|port| (u64::from(port - 2_000) * 10, port));
    let questions = ports().filter(|_| asked).flat_map(|(at, port)| {
        let asked =
            [v4(17, &udp(port, 53, &[7; 60])), v4(6, &from_port(0x02, port)), v6(17, &udp(port, 53, b"7"))];
        asked.map(|frame| Timed::new(at, turned(frame)))
    });
    let answers = ports().flat_map(|(at, port)| answer(port).map(|frame| Timed::new(at + 2_000, frame)));
    let time = Timed::new(0, turned(v4(17, &udp(123, 123, &[7; 48]))));
    [time].into_iter().chain(questions).chain(answers).collect()
}

/// 300 requests in a connection within a second, more than are sampled, and what they are answered; then a query.
pub(crate) fn requests() -> Vec<Timed> {
    let mut packets: Vec<_> = (0..300u64)
        .flat_map(|number| {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: victim\r\n\r\n");
            let status = b"HTTP/1.1 404 Not Found\r\n\r\n";
            [
                Timed::new(number * 2, v4(6, &[tcp(0x18, 80).as_slice(), request.as_bytes()].concat())),
                Timed::new(number * 2 + 1, turned(v4(6, &[from_port(0x18, 80).as_slice(), status].concat()))),
            ]
        })
        .collect();
    let query = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 1];
    packets.push(Timed::new(1_500, v4(17, &udp(40_000, 53, &query))));
    packets
}

/// Every packet of the table, one in 300 ms.
pub(crate) fn packet_table() -> Vec<Timed> {
    (0..).zip(table()).map(|(place, case)| Timed::new(place * 300, case.frame)).collect()
}

/// 300 sources that send odd segments in turns, so that many findings are reported at one poll.
fn many_sources() -> Vec<Timed> {
    (0..3_000u32)
        .map(|number| {
            let source = Some(Ipv4Addr::from(0x0a00_0000 + (number * 7919) % 300));
            let segment = tcp(0x29, u16::try_from(number % 1000).expect("short"));
            Timed::new(u64::from(number), v4_with(&V4 { protocol: 6, source, ..V4::default() }, &segment))
        })
        .collect()
}

/// Scans by two sources, again after some minutes, an hour and a day.
fn quiet_hours() -> Vec<Timed> {
    let mut packets = Vec::new();
    for start in [0, 3 * MINUTE, 9 * MINUTE, 70 * MINUTE, 24 * 60 * MINUTE] {
        for (place, packet) in (0..).zip(port_scan()) {
            packets.push(Timed { at: packet.at + (start + place) * 1000, ..packet });
        }
        for place in 0..5 {
            packets.push(Timed::new(start + 2_000 + place * 700, v6(6, &tcp(0x01, 22))));
        }
    }
    packets
}

/// Frames of which the beginning was captured, so much that it is enough, and so little that it is not.
fn cut() -> Vec<Timed> {
    let payload = |header: Vec<u8>| [header, vec![7; 900]].concat();
    let frames = [
        v4(6, &payload(tcp(0x02, 80))),
        v4(6, &payload(tcp(0x10, 80))),
        v6(6, &payload(tcp(0x00, 80))),
        v4(17, &udp(40_000, 161, &[1; 1200])),
        v4(1, &payload(icmp(8))),
        v6(44, &fragment6(6, 0, true, &payload(tcp(0x29, 22)))),
        tagged(
            &[EtherType::VLAN_TAGGED_FRAME],
            EtherType::IPV4,
            &v4_packet(&V4 { protocol: 6, ..V4::default() }, &payload(tcp(0x03, 22))),
        ),
    ];
    let mut packets = Vec::new();
    for frame in frames {
        for snaplen in 10..120 {
            let at = packets.len() as u64 * 20;
            packets.push(Timed { snaplen, ..Timed::new(at, frame.clone()) });
        }
    }
    packets
}

/// A clock that goes back an hour and forward half a century.
pub(crate) fn jumping_times() -> Vec<Timed> {
    let mut packets = port_scan();
    for (place, packet) in packets.iter_mut().enumerate() {
        match place {
            100..150 => packet.at -= 3_600_000_000,
            250.. => packet.at += 50 * 365 * 86_400_000_000,
            _ => {}
        }
    }
    packets
}

fn raw() -> Vec<Timed> {
    port_scan().into_iter().map(|packet| Timed { frame: packet.frame[14..].to_vec(), ..packet }).collect()
}
