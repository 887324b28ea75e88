//! [`Headers`] to [`Outcome`]: which packets are probes, and of which class.

use zerocopy::network_endian::U16;

use crate::{
    address::Address,
    flow,
    outcome::{Exit, Flow, Outcome, Probe, ProbeClass, Segment, SegmentKind, Service},
    packet::Packet,
    parse::{Fragment, Headers, is_bad_v4, is_bad_v6},
    wire::{
        Ethernet, Icmp, Ipv4, Ipv6, PlainTcp4, PlainTcp6, Ports, Sctp, SctpChunk, Tcp, Udp, ethertype, icmp,
        icmp6, protocol, sctp_chunk,
        tcp_flags::{ACK, CLASSIC, FIN, PSH, RST, SYN, URG},
    },
};

/// The result of the early decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Early {
    /// A segment of a connection that carries data or does more than acknowledge.
    Established,
    /// A bare acknowledgment, which looks like an ACK probe. It comes with the tag of its flow, by which a known flow
    /// is recognized; see [`crate::flow::tag`].
    Acknowledgment {
        /// The tag.
        tag: u64,
    },
    /// A SYN alone with correct lengths: a probe of [`ProbeClass::Syn`] with the flow of [`early_flow`].
    Opening,
    /// Something else: ask [`classify`].
    Undecided,
}

/// The early decision: recognizes the segments of running connections, which are most of all traffic, by one bounds
/// check and a few comparisons. For most of them it does not read the addresses. Tagged segments and those with IP
/// options are left to [`classify`].
#[inline(always)]
pub fn early<P: Packet>(packet: &P, salt: u64) -> Early {
    let Some(frame) = packet.view::<PlainTcp4>(0) else {
        return Early::Undecided;
    };
    match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => {
            if !frame.ip.is_plain() || frame.ip.protocol != protocol::TCP {
                return Early::Undecided;
            }
            let total = usize::from(frame.ip.total_length.get());
            let payload = total.wrapping_sub(size_of::<Ipv4>());
            if !is_established(frame.tcp.flags) {
                let is_sound = total >= size_of::<Ipv4>()
                    && !is_bad_v4(&frame.ip.source)
                    && packet.holds(size_of::<Ethernet>() + total);
                return opening(&frame.tcp, is_sound && frame.ip.source != frame.ip.destination, payload);
            }
            // The payload does not decide: with a total length of 0 it may be anything.
            if total > size_of::<Ipv4>() + frame.tcp.header_len() {
                return Early::Established;
            }
            Early::Acknowledgment { tag: flow::tag_v4(&frame.ip, &frame.tcp, salt) }
        }
        ethertype::IPV6 => {
            let Some(frame) = packet.view::<PlainTcp6>(0) else {
                return Early::Undecided;
            };
            if frame.ip.next_header != protocol::TCP {
                return Early::Undecided;
            }
            let payload = usize::from(frame.ip.payload_length.get());
            if !is_established(frame.tcp.flags) {
                let is_v6 = frame.ip.version_class_flow[0] >> 4 == 6;
                let end = size_of::<Ethernet>() + size_of::<Ipv6>() + payload;
                let is_sound = is_v6 && payload > 0 && !is_bad_v6(&frame.ip.source) && packet.holds(end);
                return opening(&frame.tcp, is_sound && frame.ip.source != frame.ip.destination, payload);
            }
            if payload > frame.tcp.header_len() {
                return Early::Established;
            }
            Early::Acknowledgment { tag: flow::tag_v6(&frame.ip, &frame.tcp, salt) }
        }
        _ => Early::Undecided,
    }
}

/// Whether a segment is a SYN alone and its header has a possible length.
#[inline(always)]
fn opening(tcp: &Tcp, is_sound: bool, payload: usize) -> Early {
    let header_len = tcp.header_len();
    if is_sound && tcp.flags & CLASSIC == SYN && header_len >= size_of::<Tcp>() && header_len <= payload {
        return Early::Opening;
    }
    Early::Undecided
}

/// The source of a packet that [`early`] recognized.
#[inline(always)]
pub fn early_source<P: Packet>(packet: &P) -> Option<Address> {
    let frame = packet.view::<PlainTcp4>(0)?;
    match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => Some(Address::from_v4(&frame.ip.source)),
        _ => packet.view::<PlainTcp6>(0).map(|frame| Address::from_v6(&frame.ip.source)),
    }
}

/// The destination port of a packet that [`early`] recognized, and the offset of its payload.
#[inline(always)]
pub fn early_payload<P: Packet>(packet: &P) -> Option<(u16, usize)> {
    let frame = packet.view::<PlainTcp4>(0)?;
    let (tcp, offset) = match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => (&frame.tcp, size_of::<PlainTcp4>()),
        _ => (&packet.view::<PlainTcp6>(0)?.tcp, size_of::<PlainTcp6>()),
    };
    Some((tcp.destination.get(), offset - size_of::<Tcp>() + tcp.header_len()))
}

/// The flow of a packet that [`early`] recognized.
#[inline(always)]
pub fn early_flow<P: Packet>(packet: &P) -> Option<Flow> {
    let frame = packet.view::<PlainTcp4>(0)?;
    let ((source, destination), tcp) = match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => (frame.ip.addresses(), &frame.tcp),
        _ => {
            let frame = packet.view::<PlainTcp6>(0)?;
            (frame.ip.addresses(), &frame.tcp)
        }
    };
    let service = Service { protocol: protocol::TCP, port: tcp.destination.get() };
    Some(Flow { source, destination, service, source_port: tcp.source.get(), reserved: 0 })
}

#[inline(always)]
fn is_established(flags: u8) -> bool {
    flags & (SYN | FIN | RST | ACK) == ACK
}

/// Classifies a packet whose headers were found.
#[inline(always)]
pub fn classify<P: Packet>(packet: &P, headers: &Headers) -> Outcome {
    if let Some(verdict) = fragment(packet, headers) {
        return finish(packet, headers, verdict);
    }
    let verdict = match headers.protocol {
        protocol::TCP => tcp(packet, headers),
        protocol::UDP => udp(packet, headers),
        protocol::ICMP if !headers.is_v6 => icmp_v4(packet, headers),
        protocol::ICMPV6 if headers.is_v6 => icmp_v6(packet, headers),
        protocol::SCTP => sctp(packet, headers),
        other => ip_protocol(other, headers),
    };
    finish(packet, headers, verdict)
}

/// The kind of a packet with its ports, or the exit of one that is no probe, whatever the sockets say.
type Verdict = Result<(Kind, Ports16), Exit>;

#[derive(Clone, Copy)]
enum Kind {
    Probe(ProbeClass),
    Segment(SegmentKind),
}

/// Source and destination port in host byte order.
#[derive(Clone, Copy)]
struct Ports16 {
    source: u16,
    destination: u16,
}

/// Used where no port can be read.
const NO_PORT: Ports16 = Ports16 { source: 0, destination: 0 };

#[inline(always)]
fn ports(source: U16, destination: U16) -> Ports16 {
    Ports16 { source: source.get(), destination: destination.get() }
}

#[inline(always)]
fn probe(class: ProbeClass, ports: Ports16) -> Verdict {
    Ok((Kind::Probe(class), ports))
}

/// Adds the addresses. Only probes need them.
#[inline(always)]
fn finish<P: Packet>(packet: &P, headers: &Headers, verdict: Verdict) -> Outcome {
    let (kind, ports) = match verdict {
        Ok(found) => found,
        Err(exit) => return Outcome::Exit(exit),
    };
    let Some((source, destination)) = headers.addresses(packet) else {
        return Outcome::Exit(Exit::TruncatedIp);
    };
    let flow = Flow {
        source,
        destination,
        service: Service { protocol: headers.protocol, port: ports.destination },
        source_port: ports.source,
        reserved: 0,
    };
    match kind {
        _ if source == destination => Outcome::Probe(Probe { class: ProbeClass::Land, flow }),
        Kind::Probe(class) => Outcome::Probe(Probe { class, flow }),
        Kind::Segment(kind) => Outcome::Segment(Segment { kind, flow }),
    }
}

/// Length of the smallest transport header that must be in the first fragment (RFC 1858, 3.1). With less, filters and
/// sensors do not see flags and ports.
#[inline(always)]
fn shortest_header(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => size_of::<Tcp>(),
        protocol::UDP => size_of::<Udp>(),
        protocol::SCTP => size_of::<Sctp>(),
        _ => 0,
    }
}

/// Fragments that hide the transport header are probes. The code does not look into other later fragments.
#[inline(always)]
fn fragment<P: Packet>(packet: &P, headers: &Headers) -> Option<Verdict> {
    match headers.fragment {
        Fragment::Whole => None,
        Fragment::First if headers.transport_len < shortest_header(headers.protocol) => {
            Some(probe(ProbeClass::TinyFragment, view_ports(packet, headers)))
        }
        Fragment::First => None,
        // RFC 1858, 3.2: a fragment at 8 bytes into TCP would overwrite the flags.
        Fragment::Later(1) if headers.protocol == protocol::TCP => {
            Some(probe(ProbeClass::TinyFragment, NO_PORT))
        }
        Fragment::Later(_) => Some(Err(Exit::Fragment)),
    }
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Tcp>(packet, headers) else {
        return missing::<Tcp>(headers, view_ports(packet, headers));
    };
    let ports = ports(header.source, header.destination);
    let header_len = header.header_len();
    let whole = matches!(headers.fragment, Fragment::Whole);
    if header_len < size_of::<Tcp>() || (whole && header_len > headers.transport_len) {
        return probe(ProbeClass::BadLength, ports);
    }
    let empty = whole && header_len == headers.transport_len;
    tcp_flags(header.flags, empty).map(|kind| (kind, ports))
}

/// The meaning of a combination of TCP flags. ECE and CWR belong to ECN, with or without SYN. PSH and URG mean nothing
/// beside SYN or RST: stacks and middleboxes send them, and Linux serves such a SYN.
#[inline(always)]
fn tcp_flags(flags: u8, empty: bool) -> Result<Kind, Exit> {
    const XMAS: u8 = FIN | PSH | URG;
    const CLOSING: u8 = FIN | ACK;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    let flags = flags & CLASSIC;
    let meant = flags & (SYN | FIN | RST | ACK);
    let class = match flags {
        _ if is_established(flags) && empty => return Ok(Kind::Segment(SegmentKind::Acknowledgment)),
        _ if is_established(flags) => return Err(Exit::TcpEstablished),
        _ if meant == SYN_ACK => return Ok(Kind::Segment(SegmentKind::SynAck)),
        _ if matches!(meant, RST | RST_ACK) => return Ok(Kind::Segment(SegmentKind::Reset)),
        // The last segment may carry data and urgent data.
        _ if flags & (SYN | RST) == 0 && flags & CLOSING == CLOSING => {
            return Ok(Kind::Segment(SegmentKind::Closing));
        }
        _ if meant == SYN => ProbeClass::Syn,
        0 => ProbeClass::Null,
        FIN => ProbeClass::Fin,
        XMAS => ProbeClass::Xmas,
        _ if flags & SYN != 0 && flags & FIN != 0 => ProbeClass::SynFin,
        _ if flags & SYN != 0 && flags & RST != 0 => ProbeClass::SynRst,
        _ => ProbeClass::OddFlags,
    };
    Ok(Kind::Probe(class))
}

#[inline(always)]
fn udp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Udp>(packet, headers) else {
        return missing::<Udp>(headers, view_ports(packet, headers));
    };
    let ports = ports(header.source, header.destination);
    let whole = matches!(headers.fragment, Fragment::Whole);
    let length = match usize::from(header.length.get()) {
        0 if headers.is_v6 => headers.transport_len,
        length => length,
    };
    if length < size_of::<Udp>() || (whole && length > headers.transport_len) {
        return probe(ProbeClass::BadLength, ports);
    }
    if headers.to_group {
        return Err(Exit::UdpMulticast);
    }
    let kind = if length == size_of::<Udp>() { SegmentKind::EmptyDatagram } else { SegmentKind::Datagram };
    Ok((Kind::Segment(kind), ports))
}

#[inline(always)]
fn icmp_v4<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Icmp>(packet, headers) else {
        return missing::<Icmp>(headers, NO_PORT);
    };
    match header.kind {
        icmp::ECHO => probe(ProbeClass::IcmpEcho, NO_PORT),
        icmp::TIMESTAMP => probe(ProbeClass::IcmpTimestamp, NO_PORT),
        icmp::ADDRESS_MASK => probe(ProbeClass::IcmpAddressMask, NO_PORT),
        icmp::INFORMATION => probe(ProbeClass::IcmpInformation, NO_PORT),
        _ => Err(Exit::IcmpOther),
    }
}

#[inline(always)]
fn icmp_v6<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Icmp>(packet, headers) else {
        return missing::<Icmp>(headers, NO_PORT);
    };
    match header.kind {
        icmp6::ECHO => probe(ProbeClass::IcmpEcho, NO_PORT),
        icmp6::NODE_INFORMATION => probe(ProbeClass::IcmpInformation, NO_PORT),
        _ => Err(Exit::IcmpOther),
    }
}

#[inline(always)]
fn sctp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Sctp>(packet, headers) else {
        return missing::<Sctp>(headers, view_ports(packet, headers));
    };
    let ports = ports(header.source, header.destination);
    let first = size_of::<Sctp>() + size_of::<SctpChunk>();
    if headers.transport_len < first {
        return probe(ProbeClass::BadLength, ports);
    }
    let Some(chunk) = packet.view::<SctpChunk>(headers.transport + size_of::<Sctp>()) else {
        return Err(Exit::TruncatedIp);
    };
    match chunk.kind {
        sctp_chunk::INIT => probe(ProbeClass::SctpInit, ports),
        sctp_chunk::COOKIE_ECHO => probe(ProbeClass::SctpCookieEcho, ports),
        _ => Err(Exit::SctpOther),
    }
}

/// Protocols other than the transports. Those that edge hosts use pass if they carry anything; nmap -sO sends bare IP
/// headers.
#[inline(always)]
fn ip_protocol(protocol: u8, headers: &Headers) -> Verdict {
    let spoken = matches!(
        protocol,
        protocol::IGMP
            | protocol::IPV4
            | protocol::IPV6
            | protocol::GRE
            | protocol::ESP
            | protocol::AUTHENTICATION
            | protocol::EIGRP
            | protocol::OSPF
            | protocol::PIM
            | protocol::VRRP
            | protocol::L2TP
            | protocol::UDP_LITE
    );
    if spoken && headers.transport_len > 0 {
        return Err(Exit::ProtocolOther);
    }
    probe(ProbeClass::IpProtocol, NO_PORT)
}

/// A transport header that cannot be read. Either the IP length cuts it short, or it is in the frame but not in its
/// first buffer. The latter depends on the driver and is no probe.
#[inline(always)]
fn missing<T>(headers: &Headers, ports: Ports16) -> Verdict {
    if headers.transport_len < size_of::<T>() {
        return probe(ProbeClass::BadLength, ports);
    }
    Err(Exit::TruncatedIp)
}

#[inline(always)]
fn view_ports<P: Packet>(packet: &P, headers: &Headers) -> Ports16 {
    view_within::<P, Ports>(packet, headers)
        .map_or(NO_PORT, |header| ports(header.source, header.destination))
}

/// The header at the start of the transport, if it lies within the IP length.
#[inline(always)]
fn view_within<'p, P: Packet, T: crate::wire::Wire>(packet: &'p P, headers: &Headers) -> Option<&'p T> {
    if headers.transport_len < size_of::<T>() {
        return None;
    }
    packet.view::<T>(headers.transport)
}
