//! [`Headers`] to [`Outcome`]: which packets probe, and for what.

use crate::{
    address::Address,
    outcome::{EPHEMERAL_START, Exit, Flow, Outcome, Probe, ProbeClass, Service},
    packet::Packet,
    parse::{Fragment, Headers},
    wire::{
        Icmp, Ipv4, Ipv6, PlainTcp4, PlainTcp6, Ports, Sctp, SctpChunk, Tcp, Udp, ethertype, icmp, icmp6,
        protocol, sctp_chunk,
        tcp_flags::{ACK, CLASSIC, FIN, PSH, RST, SYN, URG},
    },
};

/// Version 4 with a header of five words: no options.
const V4_PLAIN: u8 = 0x45;
/// The IPv4 fragment field without the don't-fragment flag and the reserved bit.
const V4_IS_FRAGMENT: u16 = 0x3fff;

/// The early decision: recognizes the segments of running connections, the bulk of all traffic, by
/// one bounds check and four comparisons, before any address is read. Gives nothing for all else,
/// tagged segments and those with IP options among it, which [`classify`] then sees to.
#[inline(always)]
pub fn established<P: Packet>(packet: &P) -> Option<Outcome> {
    let frame = packet.view::<PlainTcp4>(0)?;
    let flags = match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => {
            let plain = frame.ip.version_ihl == V4_PLAIN
                && frame.ip.protocol == protocol::TCP
                && frame.ip.fragment.get() & V4_IS_FRAGMENT == 0;
            if !plain {
                return None;
            }
            frame.tcp.flags
        }
        ethertype::IPV6 => {
            let frame = packet.view::<PlainTcp6>(0)?;
            if frame.ip.next_header != protocol::TCP {
                return None;
            }
            frame.tcp.flags
        }
        _ => return None,
    };
    is_established(flags).then_some(Outcome::Exit(Exit::TcpEstablished))
}

#[inline(always)]
fn is_established(flags: u8) -> bool {
    flags & (SYN | FIN | RST | ACK) == ACK
}

/// What a packet is after its headers were found.
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

/// A probe class with the port it goes to, or the exit of a packet that is no probe.
type Verdict = Result<(ProbeClass, u16), Exit>;

/// Where no port can be read.
const NO_PORT: u16 = 0;

/// Adds the addresses, which only probes need.
#[inline(always)]
fn finish<P: Packet>(packet: &P, headers: &Headers, verdict: Verdict) -> Outcome {
    let (class, port) = match verdict {
        Ok(probe) => probe,
        Err(exit) => return Outcome::Exit(exit),
    };
    let addresses = if headers.is_v6 {
        packet
            .view::<Ipv6>(headers.network)
            .map(|ip| (Address::from_v6(&ip.source), Address::from_v6(&ip.destination)))
    } else {
        packet
            .view::<Ipv4>(headers.network)
            .map(|ip| (Address::from_v4(&ip.source), Address::from_v4(&ip.destination)))
    };
    let Some((source, destination)) = addresses else {
        return Outcome::Exit(Exit::TruncatedIp);
    };
    let class = if source == destination { ProbeClass::Land } else { class };
    let service = Service { protocol: headers.protocol, port };
    Outcome::Probe(Probe { class, flow: Flow { source, destination, service } })
}

/// Length of the smallest transport header that must be in the first fragment (RFC 1858, 3.1):
/// with less, filters and sensors do not see flags and ports.
#[inline(always)]
fn shortest_header(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => size_of::<Tcp>(),
        protocol::UDP => size_of::<Udp>(),
        protocol::SCTP => size_of::<Sctp>(),
        _ => 0,
    }
}

/// Fragments that hide the transport header are probes; other later fragments are not looked into.
#[inline(always)]
fn fragment<P: Packet>(packet: &P, headers: &Headers) -> Option<Verdict> {
    match headers.fragment {
        Fragment::Whole => None,
        Fragment::First if headers.transport_len < shortest_header(headers.protocol) => {
            let port = packet.view::<Ports>(headers.transport).map_or(NO_PORT, |p| p.destination.get());
            let port = if headers.transport_len < size_of::<Ports>() { NO_PORT } else { port };
            Some(Ok((ProbeClass::TinyFragment, port)))
        }
        Fragment::First => None,
        // RFC 1858, 3.2: at 8 bytes into TCP it would overwrite the flags.
        Fragment::Later(1) if headers.protocol == protocol::TCP => {
            Some(Ok((ProbeClass::TinyFragment, NO_PORT)))
        }
        Fragment::Later(_) => Some(Err(Exit::Fragment)),
    }
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Tcp>(packet, headers) else {
        return bad_length(packet, headers);
    };
    let port = header.destination.get();
    let header_len = usize::from(header.data_offset >> 4) * 4;
    let whole = matches!(headers.fragment, Fragment::Whole);
    if header_len < size_of::<Tcp>() || (whole && header_len > headers.transport_len) {
        return Ok((ProbeClass::BadLength, port));
    }
    tcp_flags(header.flags).map(|class| (class, port))
}

/// What a combination of TCP flags means. ECE and CWR are part of ECN, with or without SYN.
#[inline(always)]
fn tcp_flags(flags: u8) -> Result<ProbeClass, Exit> {
    let flags = flags & CLASSIC;
    if is_established(flags) {
        return Err(Exit::TcpEstablished);
    }
    const XMAS: u8 = FIN | PSH | URG;
    const CLOSING: u8 = FIN | ACK;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    match flags {
        SYN => Ok(ProbeClass::Syn),
        SYN_ACK => Err(Exit::TcpSynAck),
        RST | RST_ACK => Err(Exit::TcpReset),
        0 => Ok(ProbeClass::Null),
        FIN => Ok(ProbeClass::Fin),
        XMAS => Ok(ProbeClass::Xmas),
        // Data and urgent data may come with the last segment.
        _ if flags & (SYN | RST) == 0 && flags & CLOSING == CLOSING => Err(Exit::TcpClosing),
        _ if flags & SYN != 0 && flags & FIN != 0 => Ok(ProbeClass::SynFin),
        _ if flags & SYN != 0 && flags & RST != 0 => Ok(ProbeClass::SynRst),
        _ => Ok(ProbeClass::OddFlags),
    }
}

#[inline(always)]
fn udp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Udp>(packet, headers) else {
        return bad_length(packet, headers);
    };
    let port = header.destination.get();
    let whole = matches!(headers.fragment, Fragment::Whole);
    let length = match usize::from(header.length.get()) {
        0 if headers.is_v6 => headers.transport_len,
        length => length,
    };
    if length < size_of::<Udp>() || (whole && length > headers.transport_len) {
        return Ok((ProbeClass::BadLength, port));
    }
    if headers.to_group {
        return Err(Exit::UdpMulticast);
    }
    if length == size_of::<Udp>() {
        return Ok((ProbeClass::UdpEmpty, port));
    }
    if header.source.get() < 1024 && port >= EPHEMERAL_START {
        return Err(Exit::UdpReply);
    }
    Ok((ProbeClass::Udp, port))
}

#[inline(always)]
fn icmp_v4<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Icmp>(packet, headers) else {
        return Ok((ProbeClass::BadLength, NO_PORT));
    };
    match header.kind {
        icmp::ECHO => Ok((ProbeClass::IcmpEcho, NO_PORT)),
        icmp::TIMESTAMP => Ok((ProbeClass::IcmpTimestamp, NO_PORT)),
        icmp::ADDRESS_MASK => Ok((ProbeClass::IcmpAddressMask, NO_PORT)),
        icmp::INFORMATION => Ok((ProbeClass::IcmpInformation, NO_PORT)),
        _ => Err(Exit::IcmpOther),
    }
}

#[inline(always)]
fn icmp_v6<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Icmp>(packet, headers) else {
        return Ok((ProbeClass::BadLength, NO_PORT));
    };
    match header.kind {
        icmp6::ECHO => Ok((ProbeClass::IcmpEcho, NO_PORT)),
        icmp6::NODE_INFORMATION => Ok((ProbeClass::IcmpInformation, NO_PORT)),
        _ => Err(Exit::IcmpOther),
    }
}

#[inline(always)]
fn sctp<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let Some(header) = view_within::<P, Sctp>(packet, headers) else {
        return bad_length(packet, headers);
    };
    let port = header.destination.get();
    let first = size_of::<Sctp>() + size_of::<SctpChunk>();
    if headers.transport_len < first {
        return Ok((ProbeClass::BadLength, port));
    }
    let Some(chunk) = packet.view::<SctpChunk>(headers.transport + size_of::<Sctp>()) else {
        return Ok((ProbeClass::BadLength, port));
    };
    match chunk.kind {
        sctp_chunk::INIT => Ok((ProbeClass::SctpInit, port)),
        sctp_chunk::COOKIE_ECHO => Ok((ProbeClass::SctpCookieEcho, port)),
        _ => Err(Exit::SctpOther),
    }
}

/// Protocols beyond the transports: those that edge hosts do speak pass if they carry anything;
/// nmap -sO sends bare IP headers.
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
    Ok((ProbeClass::IpProtocol, NO_PORT))
}

/// A transport header that is cut short by the IP length, with its port if that much is there.
#[inline(always)]
fn bad_length<P: Packet>(packet: &P, headers: &Headers) -> Verdict {
    let port = view_within::<P, Ports>(packet, headers).map_or(NO_PORT, |ports| ports.destination.get());
    Ok((ProbeClass::BadLength, port))
}

/// The header at the start of the transport, if it lies within the length that IP gives.
#[inline(always)]
fn view_within<'p, P: Packet, T: crate::wire::Wire>(packet: &'p P, headers: &Headers) -> Option<&'p T> {
    if headers.transport_len < size_of::<T>() {
        return None;
    }
    packet.view::<T>(headers.transport)
}
