//! The packet table: a frame, and what every layer must make of it.

use std::net::Ipv6Addr;

use etherparse::EtherType;
use scanguard_common::{
    address::Address,
    inspect,
    oracle::{self, Blind, Decision},
    outcome::{
        Exit, Flow, Outcome, Probe,
        ProbeClass::{self, *},
        Segment,
        SegmentKind::{self, *},
        Service,
    },
    parse::deep::{MAX_EXTENSIONS, MAX_TAGS},
    wire::{
        protocol,
        tcp_flags::{ACK, FIN, PSH, RST, SYN, URG},
    },
};

use crate::fixtures::frames::*;

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, in words.
    pub name: &'static str,
    /// The bytes on the wire.
    pub frame: Vec<u8>,
    /// The result of parser and classifier.
    pub outcome: Outcome,
}

const TCP: u8 = protocol::TCP;
const UDP: u8 = protocol::UDP;
const ICMP: u8 = protocol::ICMP;
const ICMP6: u8 = protocol::ICMPV6;
const SCTP: u8 = protocol::SCTP;

/// The source port is that of the frames, which the table does not repeat.
fn flow(v6: bool, protocol: u8, port: u16) -> Flow {
    let (source, destination) = if v6 {
        (Address::from_v6(&SOURCE6.octets()), Address::from_v6(&DESTINATION6.octets()))
    } else {
        (Address::from(SOURCE), Address::from(DESTINATION))
    };
    Flow { source, destination, service: Service { protocol, port }, source_port: 0, reserved: 0 }
}

fn probe(name: &'static str, frame: Vec<u8>, class: ProbeClass, protocol: u8, port: u16) -> Case {
    Case { name, frame, outcome: Outcome::Probe(Probe { class, flow: flow(false, protocol, port) }) }
}

fn probe6(name: &'static str, frame: Vec<u8>, class: ProbeClass, protocol: u8, port: u16) -> Case {
    Case { name, frame, outcome: Outcome::Probe(Probe { class, flow: flow(true, protocol, port) }) }
}

fn segment(name: &'static str, frame: Vec<u8>, kind: SegmentKind, protocol: u8, port: u16) -> Case {
    Case { name, frame, outcome: Outcome::Segment(Segment { kind, flow: flow(false, protocol, port) }) }
}

fn segment6(name: &'static str, frame: Vec<u8>, kind: SegmentKind, protocol: u8, port: u16) -> Case {
    Case { name, frame, outcome: Outcome::Segment(Segment { kind, flow: flow(true, protocol, port) }) }
}

fn exit(name: &'static str, frame: Vec<u8>, exit: Exit) -> Case {
    Case { name, frame, outcome: Outcome::Exit(exit) }
}

impl Case {
    /// The outcome of parser and classifier for the frame, without the source port.
    pub fn inspected(&self) -> Outcome {
        let mut outcome = inspect(&self.frame.as_slice());
        match &mut outcome {
            Outcome::Probe(probe) => probe.flow.source_port = 0,
            Outcome::Segment(segment) => segment.flow.source_port = 0,
            Outcome::Exit(_) => {}
        }
        outcome
    }

    /// How it is counted where nothing is known of sockets and addresses: its exit, and its class.
    pub fn counted(&self) -> (Exit, Option<ProbeClass>) {
        match inspect(&self.frame.as_slice()) {
            Outcome::Exit(exit) => (exit, None),
            Outcome::Probe(probe) => (Exit::Probe, Some(probe.class)),
            Outcome::Segment(Segment { kind, flow }) => match oracle::segment(&Blind, kind, &flow) {
                Decision::Ordinary { exit, .. } => (exit, None),
                Decision::Probe { class, .. } => (Exit::Probe, Some(class)),
            },
        }
    }
}

/// All rows.
pub fn table() -> Vec<Case> {
    [
        tcp_cases(),
        udp_cases(),
        icmp_cases(),
        other_transports(),
        options(),
        links(),
        extensions(),
        fragments(),
        malformed(),
        translated(),
    ]
    .concat()
}

/// From clients whose IPv4 address is in their IPv6 address: a translator's prefixes, Teredo and 6to4. All are the same client.
fn translated() -> Vec<Case> {
    let through = |name, place: usize, kind: u8, transport: &[u8], outcome: fn(Flow) -> Outcome| {
        let (client, port) = (TRANSLATED[place], if kind == TCP { 22 } else { 53 });
        let flow = Flow { source: Address::from_v6(&client.octets()), ..flow(true, kind, port) };
        Case { name, frame: from6(v6(kind, transport), client), outcome: outcome(flow) }
    };
    let syn = |flow| Outcome::Probe(Probe { class: Syn, flow });
    let datagram = |flow| Outcome::Segment(Segment { kind: Datagram, flow });
    vec![
        through("syn through a translator (64:ff9b::/96)", 0, TCP, &tcp(SYN, 22), syn),
        through("syn through a local translator (64:ff9b:1::/48)", 1, TCP, &tcp(SYN, 22), syn),
        through("syn through teredo", 2, TCP, &tcp(SYN, 22), syn),
        through("syn through 6to4", 3, TCP, &tcp(SYN, 22), syn),
        through("udp through a translator", 0, UDP, &udp(40_000, 53, b"query"), datagram),
    ]
}

/// 192.0.2.33 behind each of the prefixes that nobody names.
pub const TRANSLATED: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0221),
    Ipv6Addr::new(0x64, 0xff9b, 1, 0xabcd, 0, 0, 0xc000, 0x0221),
    Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, 0x3fff, 0xfdde),
    Ipv6Addr::new(0x2002, 0xc000, 0x0221, 7, 0, 0, 0, 1),
];

/// The same IPv6 frame from another address.
pub fn from6(mut frame: Vec<u8>, source: Ipv6Addr) -> Vec<u8> {
    frame[22..38].copy_from_slice(&source.octets());
    frame
}

/// SYNs with options: all layers must take the same fingerprint of them.
fn options() -> Vec<Case> {
    let syn = |name, options: &[u8]| probe(name, v4(TCP, &syn_with(options, 22)), Syn, TCP, 22);
    let behind = |extensions: usize| v6(60, &chain(extensions, TCP, &syn_with(&MAC_OPTIONS, 22)));
    let tagged_mac =
        ethernet_tagged(&v4_packet(&V4 { protocol: TCP, ..V4::default() }, &syn_with(&MAC_OPTIONS, 22)));
    let ip_options = V4 { protocol: TCP, options: 8, ..V4::default() };
    let mut zmap = v4(TCP, &syn_with(&[2, 4, 5, 0xb4], 22));
    zmap[18..20].copy_from_slice(&54_321u16.to_be_bytes());
    zmap[22] = 255;
    let mut mirai = v4(TCP, &tcp(SYN, 22));
    mirai.copy_within(30..34, 38);
    vec![
        syn("syn of linux", &LINUX_OPTIONS),
        syn("syn of windows", &WINDOWS_OPTIONS),
        syn("syn of macos", &MAC_OPTIONS),
        syn("syn with mss alone", &[2, 4, 5, 0xb4]),
        syn("syn with fast open", &[2, 4, 5, 0xb4, 34, 2, 1, 1]),
        syn("syn with forty bytes that mean nothing", &[1; 40]),
        syn("syn with an option of length 0", &[2, 4, 5, 0xb4, 3, 0, 0, 0]),
        syn("syn with an option behind its header", &[2, 4, 5, 0xb4, 1, 1, 8, 10]),
        syn("syn with an option without a length", &[1, 1, 1, 3]),
        syn(
            "syn with the padding of a linux header",
            &[1, 1, 1, 1, 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
        ),
        probe("syn of zmap", zmap, Syn, TCP, 22),
        probe("syn of mirai", mirai, Syn, TCP, 22),
        probe("syn of macos with a tag", tagged_mac, Syn, TCP, 22),
        probe(
            "syn of macos behind ip options",
            v4_with(&ip_options, &syn_with(&MAC_OPTIONS, 22)),
            Syn,
            TCP,
            22,
        ),
        probe6("syn of linux over ipv6", v6(TCP, &syn_with(&LINUX_OPTIONS, 22)), Syn, TCP, 22),
        probe6("syn of macos behind two extension headers", behind(2), Syn, TCP, 22),
        probe6("syn of macos behind forty extension headers", behind(40), Syn, TCP, 22),
        probe6(
            "syn of linux beyond what is read in place",
            v6(60, &long_extension(TCP, &syn_with(&LINUX_OPTIONS, 22))),
            Syn,
            TCP,
            22,
        ),
    ]
}

/// The packet in a frame with one tag.
fn ethernet_tagged(packet: &[u8]) -> Vec<u8> {
    tagged(&[EtherType::VLAN_TAGGED_FRAME], EtherType::IPV4, packet)
}

fn tcp_cases() -> Vec<Case> {
    let tcp22 = |flags| v4(TCP, &tcp(flags, 22));
    vec![
        probe("syn", tcp22(SYN), Syn, TCP, 22),
        probe("syn with ecn", tcp22(SYN | 0xc0), Syn, TCP, 22),
        probe("syn with data (fast open)", v4(TCP, &[tcp(SYN, 22), vec![0; 100]].concat()), Syn, TCP, 22),
        probe("null scan", tcp22(0), Null, TCP, 22),
        probe("null scan with ecn", tcp22(0xc0), Null, TCP, 22),
        probe("fin scan", tcp22(FIN), Fin, TCP, 22),
        probe("xmas scan", tcp22(FIN | PSH | URG), Xmas, TCP, 22),
        probe("syn and fin", tcp22(SYN | FIN), SynFin, TCP, 22),
        probe("nmap os detection t3", tcp22(SYN | FIN | URG | PSH), SynFin, TCP, 22),
        probe("all flags", tcp22(0x3f), SynFin, TCP, 22),
        probe("syn and rst", tcp22(SYN | RST), SynRst, TCP, 22),
        probe("syn, rst and ack", tcp22(SYN | RST | ACK), SynRst, TCP, 22),
        probe("psh alone", tcp22(PSH), OddFlags, TCP, 22),
        probe("urg alone", tcp22(URG), OddFlags, TCP, 22),
        probe("syn and urg", tcp22(SYN | URG), Syn, TCP, 22),
        probe("syn and psh", tcp22(SYN | PSH), Syn, TCP, 22),
        probe("syn, psh and urg with ecn", tcp22(SYN | PSH | URG | 0xc0), Syn, TCP, 22),
        segment("syn, ack and psh", tcp22(SYN | ACK | PSH), SegmentKind::SynAck, TCP, 22),
        segment("rst and psh", tcp22(RST | PSH), Reset, TCP, 22),
        segment("rst, ack and psh", tcp22(RST | ACK | PSH), Reset, TCP, 22),
        segment("rst, ack and urg", tcp22(RST | ACK | URG), Reset, TCP, 22),
        probe("psh and urg", tcp22(PSH | URG), OddFlags, TCP, 22),
        probe("fin and psh", tcp22(FIN | PSH), OddFlags, TCP, 22),
        probe("fin and rst", tcp22(FIN | RST), OddFlags, TCP, 22),
        segment("ack", tcp22(ACK), Acknowledgment, TCP, 22),
        exit("data", v4(TCP, &[tcp(ACK | PSH, 22), vec![0; 1000]].concat()), Exit::TcpEstablished),
        segment("ack with psh and urg", tcp22(ACK | PSH | URG), Acknowledgment, TCP, 22),
        exit("urgent data", v4(TCP, &[tcp(ACK | PSH | URG, 22), vec![0; 9]].concat()), Exit::TcpEstablished),
        segment6("ack over ipv6", v6(TCP, &tcp(ACK, 22)), Acknowledgment, TCP, 22),
        exit("data over ipv6", v6(TCP, &[tcp(ACK, 22), vec![0; 9]].concat()), Exit::TcpEstablished),
        segment(
            "ack with ip options",
            v4_with(&V4 { protocol: TCP, options: 8, ..V4::default() }, &tcp(ACK, 22)),
            Acknowledgment,
            TCP,
            22,
        ),
        exit(
            "data with ip options",
            v4_with(&V4 { protocol: TCP, options: 8, ..V4::default() }, &[tcp(ACK, 22), vec![0; 9]].concat()),
            Exit::TcpEstablished,
        ),
        segment("fin and ack (maimon scan, or the end of a connection)", tcp22(FIN | ACK), Closing, TCP, 22),
        segment("last data", tcp22(FIN | ACK | PSH), Closing, TCP, 22),
        segment("syn and ack", tcp22(SYN | ACK), SegmentKind::SynAck, TCP, 22),
        segment("reset", tcp22(RST), Reset, TCP, 22),
        segment("reset and ack", tcp22(RST | ACK), Reset, TCP, 22),
        probe6("syn over ipv6", v6(TCP, &tcp(SYN, 443)), Syn, TCP, 443),
        probe6("null scan over ipv6", v6(TCP, &tcp(0, 443)), Null, TCP, 443),
        probe("port 0", v4(TCP, &tcp(SYN, 0)), Syn, TCP, 0),
        probe("port 65535", v4(TCP, &tcp(SYN, 65_535)), Syn, TCP, 65_535),
    ]
}

fn udp_cases() -> Vec<Case> {
    vec![
        segment("udp with data", v4(UDP, &udp(40_000, 161, b"snmp")), Datagram, UDP, 161),
        segment("udp without data", v4(UDP, &udp(40_000, 161, b"")), EmptyDatagram, UDP, 161),
        segment("udp to a high port", v4(UDP, &udp(40_000, 40_001, b"p2p")), Datagram, UDP, 40_001),
        segment("udp from a low port to a low port", v4(UDP, &udp(53, 161, b"x")), Datagram, UDP, 161),
        segment("dns answer", v4(UDP, &udp(53, 45_678, b"answer")), Datagram, UDP, 45_678),
        segment6("quic answer over ipv6", v6(UDP, &udp(443, 45_678, b"answer")), Datagram, UDP, 45_678),
        exit(
            "mdns",
            to_group(
                EtherType::IPV4,
                &v4_packet(&V4 { protocol: UDP, ..V4::default() }, &udp(5353, 5353, b"q")),
            ),
            Exit::UdpMulticast,
        ),
        segment6("udp over ipv6", v6(UDP, &udp(40_000, 53, b"query")), Datagram, UDP, 53),
        probe("udp length below its header", v4(UDP, &with(udp(1, 2, b"abcd"), 5, 4)), BadLength, UDP, 2),
        probe("udp length beyond the packet", v4(UDP, &with(udp(1, 2, b"abcd"), 5, 200)), BadLength, UDP, 2),
        segment6(
            "udp length 0 over ipv6 (jumbogram)",
            v6(UDP, &with(udp(40_000, 53, b"abcd"), 5, 0)),
            Datagram,
            UDP,
            53,
        ),
        probe("udp cut short", v4(UDP, &udp(1, 2, b"")[..6]), BadLength, UDP, 2),
        probe("udp cut within its ports", v4(UDP, &udp(1, 2, b"")[..3]), BadLength, UDP, 0),
    ]
}

fn icmp_cases() -> Vec<Case> {
    vec![
        probe("ping", v4(ICMP, &icmp(8)), IcmpEcho, ICMP, 0),
        probe("icmp timestamp request", v4(ICMP, &icmp(13)), IcmpTimestamp, ICMP, 0),
        probe("icmp information request", v4(ICMP, &icmp(15)), IcmpInformation, ICMP, 0),
        probe("icmp address mask request", v4(ICMP, &icmp(17)), IcmpAddressMask, ICMP, 0),
        exit("icmp echo reply", v4(ICMP, &icmp(0)), Exit::IcmpOther),
        exit("icmp unreachable", v4(ICMP, &icmp(3)), Exit::IcmpOther),
        probe6("ping over ipv6", v6(ICMP6, &icmp(128)), IcmpEcho, ICMP6, 0),
        probe6("node information query", v6(ICMP6, &icmp(139)), IcmpInformation, ICMP6, 0),
        exit("icmpv6 echo reply", v6(ICMP6, &icmp(129)), Exit::IcmpOther),
        exit("neighbour solicitation", v6(ICMP6, &icmp(135)), Exit::IcmpOther),
        probe("icmpv6 over ipv4", v4(ICMP6, &icmp(128)), IpProtocol, ICMP6, 0),
        probe6("icmp over ipv6", v6(ICMP, &icmp(8)), IpProtocol, ICMP, 0),
        probe("icmp cut short", v4(ICMP, &[8, 0]), BadLength, ICMP, 0),
    ]
}

fn other_transports() -> Vec<Case> {
    vec![
        probe("sctp init", v4(SCTP, &sctp(3868, 1)), SctpInit, SCTP, 3868),
        probe("sctp cookie echo", v4(SCTP, &sctp(3868, 10)), SctpCookieEcho, SCTP, 3868),
        exit("sctp data", v4(SCTP, &sctp(3868, 0)), Exit::SctpOther),
        exit("sctp init ack", v4(SCTP, &sctp(3868, 2)), Exit::SctpOther),
        probe("sctp without a chunk", v4(SCTP, &sctp(3868, 1)[..12]), BadLength, SCTP, 3868),
        probe6("sctp init over ipv6", v6(SCTP, &sctp(3868, 1)), SctpInit, SCTP, 3868),
        probe("ip protocol nobody speaks", v4(200, &[0; 8]), IpProtocol, 200, 0),
        probe("ip protocol 0", v4(0, &[]), IpProtocol, 0, 0),
        probe("gre without content", v4(protocol::GRE, &[]), IpProtocol, protocol::GRE, 0),
        exit("gre", v4(protocol::GRE, &[0; 24]), Exit::ProtocolOther),
        exit("esp", v4(protocol::ESP, &[0; 60]), Exit::ProtocolOther),
        exit("ospf", v4(protocol::OSPF, &[0; 44]), Exit::ProtocolOther),
        exit("igmp", v4(protocol::IGMP, &[0; 8]), Exit::ProtocolOther),
        probe6("no next header", v6(59, &[]), IpProtocol, 59, 0),
    ]
}

fn links() -> Vec<Case> {
    let syn = v4_packet(&V4 { protocol: TCP, ..V4::default() }, &tcp(SYN, 22));
    let ack = v4_packet(&V4 { protocol: TCP, ..V4::default() }, &tcp(ACK, 22));
    let (c, s) = (EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING);
    vec![
        probe("syn in a pppoe session", ethernet(PPPOE, &pppoe(0x0021, &syn)), Syn, TCP, 22),
        probe("syn in a pppoe session with a tag", tagged(&[c], PPPOE, &pppoe(0x0021, &syn)), Syn, TCP, 22),
        probe(
            "syn in a pppoe session with three tags",
            tagged(&[c; 3], PPPOE, &pppoe(0x0021, &syn)),
            Syn,
            TCP,
            22,
        ),
        probe6(
            "syn in a pppoe session, ipv6",
            ethernet(PPPOE, &pppoe(0x0057, &v6_packet(TCP, &tcp(SYN, 22)))),
            Syn,
            TCP,
            22,
        ),
        segment("ack in a pppoe session", ethernet(PPPOE, &pppoe(0x0021, &ack)), Acknowledgment, TCP, 22),
        exit("lcp in a pppoe session", ethernet(PPPOE, &pppoe(0xc021, &[1; 40])), Exit::NotIp),
        exit(
            "half an ip header in a pppoe session",
            ethernet(PPPOE, &pppoe(0x0021, &syn[..10])),
            Exit::TruncatedIp,
        ),
        exit("half a pppoe header", ethernet(PPPOE, &[0x11, 0, 0, 1]), Exit::TruncatedEthernet),
        probe("syn with a tag", tagged(&[c], EtherType::IPV4, &syn), Syn, TCP, 22),
        probe("syn with two tags", tagged(&[s, c], EtherType::IPV4, &syn), Syn, TCP, 22),
        probe(
            "syn with two tags of the old kind",
            tagged(&[EtherType::VLAN_DOUBLE_TAGGED_FRAME, c], EtherType::IPV4, &syn),
            Syn,
            TCP,
            22,
        ),
        segment("ack with two tags", tagged(&[s, c], EtherType::IPV4, &ack), Acknowledgment, TCP, 22),
        probe("syn with three tags", tagged(&[s, c, c], EtherType::IPV4, &syn), Syn, TCP, 22),
        segment("ack with eight tags", tagged(&[c; 8], EtherType::IPV4, &ack), Acknowledgment, TCP, 22),
        probe(
            "syn with as many tags as are followed",
            tagged(&[c; MAX_TAGS], EtherType::IPV4, &syn),
            Syn,
            TCP,
            22,
        ),
        exit("syn with one more", tagged(&[c; MAX_TAGS + 1], EtherType::IPV4, &syn), Exit::UnsupportedVlan),
        exit("arp with three tags", tagged(&[c; 3], EtherType::ARP, &[0; 28]), Exit::NotIp),
        exit(
            "ip version 5 behind three tags",
            tagged(&[c; 3], EtherType::IPV4, &with(syn.clone(), 0, 0x55)),
            Exit::BadIpVersion,
        ),
        exit(
            "a group as the source behind three tags",
            tagged(&[c; 3], EtherType::IPV4, &with(syn.clone(), 12, 224)),
            Exit::BadSource,
        ),
        exit(
            "half an ip header behind three tags",
            tagged(&[c; 3], EtherType::IPV4, &syn[..10]),
            Exit::TruncatedIp,
        ),
        exit(
            "frame shorter than its ip length behind three tags",
            tagged(&[c; 3], EtherType::IPV4, &syn[..syn.len() - 1]),
            Exit::TruncatedIp,
        ),
        probe(
            "tcp without anything behind three tags",
            tagged(&[c; 3], EtherType::IPV4, &v4_packet(&V4 { protocol: TCP, ..V4::default() }, &[])),
            BadLength,
            TCP,
            0,
        ),
        exit("arp", ethernet(EtherType::ARP, &[0; 28]), Exit::NotIp),
        exit("arp with a tag", tagged(&[c], EtherType::ARP, &[0; 28]), Exit::NotIp),
        exit("lldp", to_group(EtherType(0x88cc), &[0; 46]), Exit::NotIp),
        probe("syn with padding of the frame", [v4(TCP, &tcp(SYN, 22)), vec![0; 6]].concat(), Syn, TCP, 22),
        Case {
            name: "land",
            frame: v4_with(&V4 { protocol: TCP, source: Some(DESTINATION), ..V4::default() }, &tcp(SYN, 22)),
            outcome: Outcome::Probe(Probe {
                class: Land,
                flow: Flow { source: DESTINATION.into(), ..flow(false, TCP, 22) },
            }),
        },
    ]
}

fn extensions() -> Vec<Case> {
    let syn = tcp(SYN, 22);
    vec![
        probe("ip options", v4_with(&V4 { protocol: TCP, options: 40, ..V4::default() }, &syn), Syn, TCP, 22),
        probe6("hop-by-hop options", v6(0, &extension(TCP, &syn)), Syn, TCP, 22),
        probe6("routing header", v6(43, &extension(TCP, &syn)), Syn, TCP, 22),
        probe6("destination options", v6(60, &extension(TCP, &syn)), Syn, TCP, 22),
        probe6("authentication header", v6(51, &authentication(TCP, &syn)), Syn, TCP, 22),
        probe6("six extension headers", v6(60, &chain(6, TCP, &syn)), Syn, TCP, 22),
        probe6("seven extension headers", v6(60, &chain(7, TCP, &syn)), Syn, TCP, 22),
        probe6("150 extension headers", v6(60, &chain(150, TCP, &syn)), Syn, TCP, 22),
        probe6(
            "as many extension headers as are followed",
            v6(60, &chain(MAX_EXTENSIONS, TCP, &syn)),
            Syn,
            TCP,
            22,
        ),
        probe6("one more extension header", v6(60, &chain(MAX_EXTENSIONS + 1, TCP, &syn)), HeaderChain, 0, 0),
        probe6("2,048 bytes of options", v6(60, &long_extension(TCP, &syn)), Syn, TCP, 22),
        probe6(
            "4,096 bytes of hop-by-hop and destination options",
            v6(0, &long_extension(60, &long_extension(TCP, &tcp(0, 22)))),
            Null,
            TCP,
            22,
        ),
        exit(
            "data behind 2,048 bytes of options",
            v6(60, &long_extension(TCP, &[tcp(ACK, 22), vec![0; 9]].concat())),
            Exit::TcpEstablished,
        ),
        segment6(
            "ack behind 2,048 bytes of options",
            v6(60, &long_extension(TCP, &tcp(ACK, 22))),
            Acknowledgment,
            TCP,
            22,
        ),
        segment6(
            "udp behind 2,048 bytes of options",
            v6(60, &long_extension(UDP, &udp(40_000, 53, b"query"))),
            Datagram,
            UDP,
            53,
        ),
        probe6(
            "sctp init behind 2,048 bytes of options",
            v6(60, &long_extension(SCTP, &sctp(3868, 1))),
            SctpInit,
            SCTP,
            3868,
        ),
        probe6(
            "ping behind 2,048 bytes of options",
            v6(60, &long_extension(ICMP6, &icmp(128))),
            IcmpEcho,
            ICMP6,
            0,
        ),
        probe6(
            "tiny first fragment behind 2,048 bytes of options",
            v6(60, &long_extension(44, &fragment6(TCP, 0, true, &syn[..8]))),
            TinyFragment,
            TCP,
            22,
        ),
        exit(
            "later fragment behind 2,048 bytes of options",
            v6(60, &long_extension(44, &fragment6(TCP, 9, false, &[0; 40]))),
            Exit::Fragment,
        ),
        probe6(
            "syn behind three tags and 2,048 bytes of options",
            tagged(
                &[EtherType::VLAN_TAGGED_FRAME; 3],
                EtherType::IPV6,
                &v6_packet(60, &long_extension(TCP, &syn)),
            ),
            Syn,
            TCP,
            22,
        ),
        probe6(
            "first fragment that ends within options",
            v6(44, &fragment6(60, 0, true, &long_extension(TCP, &syn)[..16])),
            TinyFragment,
            TCP,
            0,
        ),
        probe6(
            "first fragment that ends within a chain of headers",
            v6(44, &fragment6(60, 0, true, &long_extension(60, &long_extension(TCP, &syn))[..16])),
            HeaderChain,
            0,
            0,
        ),
        exit(
            "options of 2,048 bytes, of which the frame has half",
            v6(60, &long_extension(TCP, &syn)[..1_024]),
            Exit::TruncatedIp,
        ),
        probe6("ping behind an extension header", v6(0, &extension(ICMP6, &icmp(128))), IcmpEcho, ICMP6, 0),
        exit(
            "extension header beyond the packet",
            v6(60, &with(extension(TCP, &syn), 1, 20)),
            Exit::TruncatedIp,
        ),
    ]
}

fn fragments() -> Vec<Case> {
    let syn = tcp(SYN, 22);
    let part =
        |offset, more, payload: &[u8]| v4_with(&V4 { protocol: TCP, offset, more, ..V4::default() }, payload);
    vec![
        probe(
            "first fragment with its header",
            part(0, true, &[syn.clone(), vec![0; 12]].concat()),
            Syn,
            TCP,
            22,
        ),
        probe("tiny first fragment (nmap -f)", part(0, true, &syn[..8]), TinyFragment, TCP, 22),
        probe("fragment that overwrites the flags", part(1, true, &syn[8..16]), TinyFragment, TCP, 0),
        exit("later fragment", part(3, false, &[0; 64]), Exit::Fragment),
        exit(
            "second fragment of udp",
            v4_with(&V4 { protocol: UDP, offset: 1, more: false, ..V4::default() }, &[0; 64]),
            Exit::Fragment,
        ),
        probe6(
            "tiny first fragment over ipv6",
            v6(44, &fragment6(TCP, 0, true, &syn[..8])),
            TinyFragment,
            TCP,
            22,
        ),
        probe6(
            "first fragment over ipv6",
            v6(44, &fragment6(TCP, 0, true, &[syn.clone(), vec![0; 12]].concat())),
            Syn,
            TCP,
            22,
        ),
        probe6("atomic fragment over ipv6", v6(44, &fragment6(TCP, 0, false, &syn)), Syn, TCP, 22),
        exit("later fragment over ipv6", v6(44, &fragment6(TCP, 9, false, &[0; 40])), Exit::Fragment),
        exit(
            "later fragment of an extension header",
            v6(44, &fragment6(60, 9, false, &[0; 40])),
            Exit::Fragment,
        ),
    ]
}

fn malformed() -> Vec<Case> {
    let syn = v4(TCP, &tcp(SYN, 22));
    let syn6 = v6(TCP, &tcp(SYN, 22));
    vec![
        exit("half an ethernet header", syn[..13].to_vec(), Exit::TruncatedEthernet),
        exit("ethernet header alone", syn[..14].to_vec(), Exit::TruncatedIp),
        exit("half an ip header", syn[..30].to_vec(), Exit::TruncatedIp),
        exit("half an ipv6 header", syn6[..50].to_vec(), Exit::TruncatedIp),
        exit("frame shorter than its ip length", syn[..syn.len() - 1].to_vec(), Exit::TruncatedIp),
        exit("frame shorter than its ipv6 length", syn6[..syn6.len() - 1].to_vec(), Exit::TruncatedIp),
        exit(
            "half a tag",
            tagged(&[EtherType::VLAN_TAGGED_FRAME], EtherType::IPV4, &[])[..16].to_vec(),
            Exit::TruncatedEthernet,
        ),
        exit("ipv4 within ipv6 as the source", mapped(syn6.clone()), Exit::BadSource),
        exit("ipv4 from a group", with(syn.clone(), 26, 224), Exit::BadSource),
        exit("ipv6 from a group", with(syn6.clone(), 22, 0xff), Exit::BadSource),
        exit("ip version 5", with(syn.clone(), 14, 0x55), Exit::BadIpVersion),
        exit("ipv6 in an ipv4 frame", ethernet(EtherType::IPV4, &syn6[14..]), Exit::BadIpVersion),
        exit("ip header of four words", with(syn.clone(), 14, 0x44), Exit::BadIpLength),
        exit("ip length below its header", with(syn.clone(), 17, 19), Exit::BadIpLength),
        probe("ip length 0 (merged segments)", with(syn.clone(), 17, 0), Syn, TCP, 22),
        probe("tcp header of four words", with(syn.clone(), 46, 0x40), BadLength, TCP, 22),
        probe("tcp header beyond the packet", with(syn.clone(), 46, 0xf0), BadLength, TCP, 22),
        probe("tcp cut short", v4(TCP, &tcp(SYN, 22)[..19]), BadLength, TCP, 22),
        probe("tcp without anything", v4(TCP, &[]), BadLength, TCP, 0),
    ]
}

/// A frame with one byte changed.
fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

/// The same IPv6 frame from ::ffff:192.0.2.7, which is nobody's address.
fn mapped(mut frame: Vec<u8>) -> Vec<u8> {
    frame[22..38].copy_from_slice(&std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets());
    frame
}
