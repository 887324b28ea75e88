//! The table of answers: a frame that leaves, and what the egress program must make of it.

use etherparse::EtherType;
use scanguard_common::{
    outcome::{
        Answer::{self, *},
        EgressExit,
    },
    wire::{
        protocol::{self, ICMP, ICMPV6, TCP, UDP},
        tcp_flags::{ACK, FIN, PSH, RST, SYN},
    },
};

use crate::fixtures::frames::*;

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Its name, in words.
    pub name: &'static str,
    /// The bytes on the wire, from [`DESTINATION`] to [`SOURCE`]: the other way than the packet table's.
    pub frame: Vec<u8>,
    /// The result of the egress program.
    pub outcome: Result<Answer, EgressExit>,
}

/// A TCP header that comes from this port.
pub fn from_port(flags: u8, port: u16) -> Vec<u8> {
    let mut header = tcp(flags, 40_000);
    header[..2].copy_from_slice(&port.to_be_bytes());
    header
}

/// Swaps the addresses of an untagged frame, if it has both.
pub fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    let (start, len) = match frame[12..14] {
        [0x08, 0x00] => (26, 4),
        [0x86, 0xdd] => (22, 16),
        _ => return frame,
    };
    if let Some(addresses) = frame.get_mut(start..start + 2 * len) {
        addresses.rotate_left(len);
    }
    frame
}

fn answer(name: &'static str, frame: Vec<u8>, answer: Answer) -> Leaving {
    Leaving { name, frame: turned(frame), outcome: Ok(answer) }
}

fn exit(name: &'static str, frame: Vec<u8>, exit: EgressExit) -> Leaving {
    Leaving { name, frame: turned(frame), outcome: Err(exit) }
}

/// All rows.
pub fn table() -> Vec<Leaving> {
    let tcp4 = |flags| v4(TCP, &tcp(flags, 40_000));
    let tcp6 = |flags| v6(TCP, &tcp(flags, 40_000));
    let options = |flags| v4_with(&V4 { protocol: TCP, options: 8, ..V4::default() }, &tcp(flags, 40_000));
    let part =
        |offset, more| v4_with(&V4 { protocol: TCP, offset, more, ..V4::default() }, &tcp(SYN | ACK, 40_000));
    vec![
        answer("syn and ack", tcp4(SYN | ACK), SynAck),
        answer("syn and ack with ecn", tcp4(SYN | ACK | 0x40), SynAck),
        answer("syn and ack with ip options", options(SYN | ACK), SynAck),
        answer("syn and ack over ipv6", tcp6(SYN | ACK), SynAck),
        answer("syn and ack behind an extension header", v6(0, &extension(TCP, &tcp(SYN | ACK, 9))), SynAck),
        answer("reset", tcp4(RST), Reset),
        answer("reset and ack", tcp4(RST | ACK), Reset),
        answer("reset and ack over ipv6", tcp6(RST | ACK), Reset),
        answer("icmp unreachable", v4(ICMP, &icmp(3)), Unreachable),
        answer("icmpv6 unreachable", v6(ICMPV6, &icmp(1)), Unreachable),
        answer("icmp echo reply", v4(ICMP, &icmp(0)), Reply),
        answer("icmp timestamp reply", v4(ICMP, &icmp(14)), Reply),
        answer("icmp information reply", v4(ICMP, &icmp(16)), Reply),
        answer("icmp address mask reply", v4(ICMP, &icmp(18)), Reply),
        answer("icmpv6 echo reply", v6(ICMPV6, &icmp(129)), Reply),
        answer("node information reply", v6(ICMPV6, &icmp(140)), Reply),
        exit("syn", tcp4(SYN), EgressExit::Tcp),
        exit("ack", tcp4(ACK), EgressExit::Tcp),
        exit("data", v4(TCP, &[tcp(ACK | PSH, 40_000), vec![0; 900]].concat()), EgressExit::Tcp),
        exit("data with ip options", options(ACK | PSH), EgressExit::Tcp),
        exit("data over ipv6", v6(TCP, &[tcp(ACK | PSH, 40_000), vec![0; 9]].concat()), EgressExit::Tcp),
        exit("end of a connection", tcp4(FIN | ACK), EgressExit::Tcp),
        exit("syn and rst", tcp4(SYN | RST), EgressExit::Tcp),
        exit("udp", v4(UDP, &udp(53, 40_000, b"answer")), EgressExit::Udp),
        exit("longer udp", v4(UDP, &udp(53, 40_000, &[0; 100])), EgressExit::Udp),
        exit("udp over ipv6", v6(UDP, &udp(53, 40_000, &[0; 100])), EgressExit::Udp),
        exit("ping", v4(ICMP, &icmp(8)), EgressExit::IcmpOther),
        exit("icmp time exceeded", v4(ICMP, &icmp(11)), EgressExit::IcmpOther),
        exit("neighbour advertisement", v6(ICMPV6, &icmp(136)), EgressExit::IcmpOther),
        exit("type 0 of icmpv6 is no reply", v6(ICMPV6, &icmp(0)), EgressExit::IcmpOther),
        exit("icmpv6 over ipv4", v4(ICMPV6, &icmp(129)), EgressExit::Other),
        exit("sctp", v4(protocol::SCTP, &sctp(40_000, 2)), EgressExit::Other),
        exit("gre", v4(protocol::GRE, &[0; 24]), EgressExit::Other),
        answer("first fragment", part(0, true), SynAck),
        exit("later fragment", part(9, false), EgressExit::Fragment),
        exit("arp", ethernet(EtherType::ARP, &[0; 28]), EgressExit::NotIp),
        exit("tcp cut short", v4(TCP, &tcp(SYN | ACK, 40_000)[..12]), EgressExit::Unreadable),
        exit("icmp cut short", v4(ICMP, &[0]), EgressExit::Unreadable),
        exit("half an ip header", tcp4(SYN | ACK)[..30].to_vec(), EgressExit::Unreadable),
    ]
}
