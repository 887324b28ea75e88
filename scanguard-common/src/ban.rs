//! Which packets a ban drops: new connections from the source, and packets that no socket wants.
//!
//! A ban must not cut this host off from its own peers. Answers of a banned source to this host's connections and
//! queries pass. Packets that may belong to a connection of another host behind this one pass, too.

use crate::{
    oracle::{Oracle, Reach, Socket},
    outcome::{Flow, SegmentKind},
    packet::Packet,
    wire::{PlainIcmp6, ethertype, icmp6, protocol},
};

/// Whether a segment or datagram of a banned source passes because the source did not begin the exchange.
///
/// Connections that the source itself began before its ban pass, too: their sockets look the same.
#[inline(always)]
pub fn passes<O: Oracle>(oracle: &O, kind: SegmentKind, flow: &Flow) -> bool {
    match kind {
        SegmentKind::Acknowledgment | SegmentKind::Closing | SegmentKind::SynAck | SegmentKind::Reset => {
            match oracle.tcp_here(flow) {
                Socket::Connected | Socket::Pending | Socket::Calling => true,
                Socket::Listening | Socket::ListeningForAny => false,
                Socket::None => elsewhere(oracle, flow),
            }
        }
        SegmentKind::Datagram | SegmentKind::EmptyDatagram => {
            looks_like_answer(oracle, flow) && (oracle.udp_here(flow) || elsewhere(oracle, flow))
        }
    }
}

/// Whether a packet is of Neighbour Discovery (RFC 4861), which is to IPv6 what ARP is to IPv4. It is never dropped:
/// without it, a gateway that asks from an address of a banned network would find this host no more. Redirects are not
/// needed. Only hosts on the link can send such packets, since their hop limit is still 255.
#[inline(always)]
pub fn is_discovery<P: Packet>(packet: &P) -> bool {
    let Some(PlainIcmp6 { ethernet, ip, icmp }) = packet.view::<PlainIcmp6>(0) else {
        return false;
    };
    ethernet.ethertype.get() == ethertype::IPV6
        && ip.next_header == protocol::ICMPV6
        && ip.hop_limit == 255
        && (icmp6::ROUTER_SOLICITATION..=icmp6::NEIGHBOUR_ADVERTISEMENT).contains(&icmp.kind)
}

/// Whether another host may want the packet: the address or port is not certainly this host's own.
#[inline(always)]
fn elsewhere<O: Oracle>(oracle: &O, flow: &Flow) -> bool {
    match oracle.unwanted(flow) {
        Reach::Open | Reach::Unknown => true,
        Reach::Closed | Reach::Dark => false,
    }
}

/// Whether a datagram goes to a port from which clients ask, or comes in a flow that this host used. If it comes from a
/// well-known port, it may be any port above those, since resolvers ask from all of them.
#[inline(always)]
fn looks_like_answer<O: Oracle>(oracle: &O, flow: &Flow) -> bool {
    let port = flow.service.port;
    oracle.calls_from(port) || (flow.source_port < 1024 && port >= 1024) || oracle.used(flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{
            Blind,
            testing::{HOST, Host, flow},
        },
        wire::protocol,
    };

    #[test]
    fn segments_pass_only_where_a_connection_wants_them() {
        let segment = flow(protocol::TCP, 443, 40_000);
        for kind in
            [SegmentKind::Acknowledgment, SegmentKind::Closing, SegmentKind::SynAck, SegmentKind::Reset]
        {
            for (tcp, expected) in [
                (Socket::Connected, true),
                (Socket::Pending, true),
                (Socket::Calling, true),
                (Socket::Listening, false),
                (Socket::None, false),
            ] {
                assert_eq!(passes(&Host { tcp, ..HOST }, kind, &segment), expected, "{kind:?} {tcp:?}");
            }
            assert!(passes(&Blind, kind, &segment), "forwarded");
        }
    }

    #[test]
    fn datagrams_pass_only_as_answers_that_somebody_wants() {
        let owner = Host { udp: true, ..HOST };
        let nobody = HOST;
        for (source, port, owned, unowned) in [
            (53, 40_000, true, false),
            (53, 2_000, true, false),
            (5_000, 53, false, false),
            (53, 53, false, false),
        ] {
            let datagram = flow(protocol::UDP, source, port);
            for kind in [SegmentKind::Datagram, SegmentKind::EmptyDatagram] {
                assert_eq!(passes(&owner, kind, &datagram), owned, "{source} to {port}");
                assert_eq!(passes(&nobody, kind, &datagram), unowned, "{source} to {port}");
            }
        }
        let peers = flow(protocol::UDP, 5_000, 5_000);
        assert!(!passes(&owner, SegmentKind::Datagram, &peers), "a stranger's");
        assert!(
            passes(&Host { used: true, ..owner }, SegmentKind::Datagram, &peers),
            "of whom this host asked"
        );
        assert!(passes(&Blind, SegmentKind::Datagram, &flow(protocol::UDP, 53, 40_000)), "forwarded");
        assert!(!passes(&Blind, SegmentKind::Datagram, &flow(protocol::UDP, 40_000, 161)), "forwarded probe");
    }
}
