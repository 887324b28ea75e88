//! Outgoing packets that say something about the source of a probe: the answers, and what this host itself began.

use crate::{
    outcome::{Answer, EgressExit, Exit, Flow, Service},
    packet::Packet,
    parse::{self, Fragment, Headers, Unread},
    wire::{
        Icmp, PlainTcp4, PlainTcp6, Tcp, Udp, ethertype, icmp, icmp6, protocol,
        tcp_flags::{ACK, FIN, RST, SYN},
    },
};

/// The kind of an outgoing packet.
///
/// The flow is that of the answered packet: its source is the remote side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outgoing {
    /// An answer.
    Answer(Answer, Flow),
    /// A RST without ACK. It answers a segment with ACK that belongs to no connection (RFC 9293, 3.10.7). It is an
    /// [`Answer::Reset`], too.
    Refusal(Flow),
    /// A SYN. The host that opens a connection is in use. Or an echo request, as the protocol of the flow says.
    Opening(Flow),
    /// A datagram.
    Datagram(Flow),
    /// It says nothing: it is counted under this exit.
    Exit(EgressExit),
}

/// The early decision: recognizes nearly all packets that are no answers by one bounds check and a few comparisons.
/// Gives the local port, too. Where the headers are not plain, the port may be any number.
#[inline(always)]
pub fn early<P: Packet>(packet: &P) -> Option<(EgressExit, u16)> {
    let frame = packet.view::<PlainTcp4>(0)?;
    // UDP has its ports at the same place as TCP.
    let (next, flags, port) = match frame.ethernet.ethertype.get() {
        ethertype::IPV4 => {
            // Only plain headers have the flags at this place. For others nothing is decided here.
            let flags = if frame.ip.is_plain() { frame.tcp.flags } else { SYN };
            (frame.ip.protocol, flags, frame.tcp.source)
        }
        ethertype::IPV6 => {
            let frame = packet.view::<PlainTcp6>(0)?;
            (frame.ip.next_header, frame.tcp.flags, frame.tcp.source)
        }
        _ => return None,
    };
    match next {
        protocol::TCP if flags & (SYN | RST) == 0 => Some((EgressExit::Tcp, port.get())),
        protocol::UDP => Some((EgressExit::Udp, port.get())),
        _ => None,
    }
}

/// The flow of a datagram that [`early`] recognized, as its answers arrive. Gives nothing where the headers are not
/// plain.
#[inline(always)]
pub fn early_datagram<P: Packet>(packet: &P) -> Option<Flow> {
    let frame = packet.view::<PlainTcp4>(0)?;
    let ((local, remote), ports) = match frame.ethernet.ethertype.get() {
        ethertype::IPV4 if frame.ip.is_plain() => (frame.ip.addresses(), &frame.tcp),
        ethertype::IPV6 => {
            let frame = packet.view::<PlainTcp6>(0)?;
            (frame.ip.addresses(), &frame.tcp)
        }
        _ => return None,
    };
    Some(Flow {
        source: remote,
        destination: local,
        service: Service { protocol: protocol::UDP, port: ports.source.get() },
        source_port: ports.destination.get(),
        reserved: 0,
    })
}

/// The exit of an [`Outgoing::Opening`].
#[inline(always)]
pub const fn opening(flow: &Flow) -> EgressExit {
    if flow.service.protocol == protocol::TCP { EgressExit::Tcp } else { EgressExit::IcmpOther }
}

/// The kind of a packet for which [`early`] could not decide.
#[inline(always)]
pub fn outgoing<P: Packet>(packet: &P) -> Outgoing {
    kind(packet, parse::parse(packet))
}

/// The kind of a packet on a link without a header.
#[inline(always)]
pub fn outgoing_bare<P: Packet>(packet: &P) -> Outgoing {
    kind(packet, parse::parse_bare(packet))
}

#[inline(always)]
fn kind<P: Packet>(packet: &P, headers: Result<Headers, Unread>) -> Outgoing {
    let headers = match headers {
        Ok(headers) => headers,
        Err(Unread::Exit(Exit::NotIp)) => return Outgoing::Exit(EgressExit::NotIp),
        Err(_) => return Outgoing::Exit(EgressExit::Unreadable),
    };
    if let Fragment::Later(_) = headers.fragment {
        return Outgoing::Exit(EgressExit::Fragment);
    }
    match headers.protocol {
        protocol::TCP => tcp(packet, &headers),
        protocol::UDP => datagram(packet, &headers),
        protocol::ICMP if !headers.is_v6 => icmp(packet, &headers, icmp_answer),
        protocol::ICMPV6 if headers.is_v6 => icmp(packet, &headers, icmp6_answer),
        _ => Outgoing::Exit(EgressExit::Other),
    }
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, headers: &Headers) -> Outgoing {
    let Some(header) = packet.view::<Tcp>(headers.transport) else {
        return Outgoing::Exit(EgressExit::Unreadable);
    };
    let (local_port, remote_port) = (header.source.get(), header.destination.get());
    let answer = match header.flags & (SYN | ACK | FIN | RST) {
        // These of the six flags decide; hosts answer with no others.
        SYN => None,
        flags if flags == SYN | ACK => Some(Answer::SynAck),
        flags if flags & (SYN | FIN) == 0 && flags & RST != 0 => Some(Answer::Reset),
        _ => return Outgoing::Exit(EgressExit::Tcp),
    };
    let refuses = header.flags & (SYN | ACK | FIN | RST) == RST;
    match (answered(packet, headers, local_port, remote_port), answer) {
        (Some(flow), Some(Answer::Reset)) if refuses => Outgoing::Refusal(flow),
        (Some(flow), Some(answer)) => Outgoing::Answer(answer, flow),
        (Some(flow), None) => Outgoing::Opening(flow),
        (None, _) => Outgoing::Exit(EgressExit::Unreadable),
    }
}

#[inline(always)]
fn datagram<P: Packet>(packet: &P, headers: &Headers) -> Outgoing {
    let flow = packet
        .view::<Udp>(headers.transport)
        .and_then(|header| answered(packet, headers, header.source.get(), header.destination.get()));
    flow.map_or(Outgoing::Exit(EgressExit::Udp), Outgoing::Datagram)
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, headers: &Headers, answer: fn(u8) -> Option<Answer>) -> Outgoing {
    let Some(header) = packet.view::<Icmp>(headers.transport) else {
        return Outgoing::Exit(EgressExit::Unreadable);
    };
    let is_echo = header.kind == if headers.is_v6 { icmp6::ECHO } else { icmp::ECHO };
    let answer = answer(header.kind);
    if answer.is_none() && !is_echo {
        return Outgoing::Exit(EgressExit::IcmpOther);
    }
    // An error goes to the source of the packet that it quotes: there is no need to read the quote.
    match (answered(packet, headers, 0, 0), answer) {
        (Some(flow), Some(answer)) => Outgoing::Answer(answer, flow),
        (Some(flow), None) => Outgoing::Opening(flow),
        (None, _) => Outgoing::Exit(EgressExit::Unreadable),
    }
}

#[inline(always)]
fn icmp_answer(kind: u8) -> Option<Answer> {
    match kind {
        icmp::UNREACHABLE => Some(Answer::Unreachable),
        icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY | icmp::INFORMATION_REPLY | icmp::ADDRESS_MASK_REPLY => {
            Some(Answer::Reply)
        }
        _ => None,
    }
}

#[inline(always)]
fn icmp6_answer(kind: u8) -> Option<Answer> {
    match kind {
        icmp6::UNREACHABLE => Some(Answer::Unreachable),
        icmp6::ECHO_REPLY | icmp6::NODE_INFORMATION_REPLY => Some(Answer::Reply),
        _ => None,
    }
}

/// The flow to which a packet is the answer.
#[inline(always)]
fn answered<P: Packet>(packet: &P, headers: &Headers, local_port: u16, remote_port: u16) -> Option<Flow> {
    let (local, remote) = headers.addresses(packet)?;
    Some(Flow {
        source: remote,
        destination: local,
        service: Service { protocol: headers.protocol, port: local_port },
        source_port: remote_port,
        reserved: 0,
    })
}
