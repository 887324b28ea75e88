//! A shield drops only those packets of a source that meet nobody here.
//!
//! Anybody can write another host's address into a probe. A source whose probes may be forged is therefore shielded,
//! not banned. A scanner with a forged address gets no answers, and the true owner of the address loses nothing that a
//! service here wants.

use crate::{
    oracle::Reach,
    outcome::{Exit, ProbeClass},
};

/// Whether a probe of this class and reach meets nobody. No client can miss such a probe.
///
/// These do not meet nobody: packets that a socket wants, packets that may be for another host, and requests that this
/// host's own addresses answer (ICMP, protocols, fragments).
#[inline(always)]
pub const fn meets_nobody(class: ProbeClass, reach: Reach) -> bool {
    match (reach, class) {
        (Reach::Dark, _) => true,
        (Reach::Unknown, _) => false,
        // No stack sends these, not even to services.
        (
            Reach::Closed | Reach::Open,
            ProbeClass::Null
            | ProbeClass::Fin
            | ProbeClass::Xmas
            | ProbeClass::SynFin
            | ProbeClass::SynRst
            | ProbeClass::OddFlags,
        ) => true,
        (
            Reach::Closed,
            ProbeClass::Syn
            | ProbeClass::Ack
            | ProbeClass::Maimon
            | ProbeClass::SynAck
            | ProbeClass::SynAckProbe
            | ProbeClass::Udp
            | ProbeClass::UdpEmpty,
        ) => true,
        (
            Reach::Open,
            ProbeClass::Syn
            | ProbeClass::Ack
            | ProbeClass::Maimon
            | ProbeClass::SynAck
            | ProbeClass::SynAckProbe
            | ProbeClass::Udp
            | ProbeClass::UdpEmpty,
        )
        | (
            Reach::Closed | Reach::Open,
            ProbeClass::IcmpEcho
            | ProbeClass::IcmpTimestamp
            | ProbeClass::IcmpAddressMask
            | ProbeClass::IcmpInformation
            | ProbeClass::SctpInit
            | ProbeClass::SctpCookieEcho
            | ProbeClass::IpProtocol
            | ProbeClass::TinyFragment
            | ProbeClass::Land
            | ProbeClass::BadLength
            | ProbeClass::HeaderChain,
        ) => false,
    }
}

/// Number of classes.
const CLASSES: usize = ProbeClass::ALL.len();

/// [`meets_nobody`] as a number for each [`Reach`], with a bit for each class. The kernel program has a class only as
/// a number, and knows only its bound.
const SHIELDED: [u32; Reach::ALL.len()] = {
    let mut words = [0; Reach::ALL.len()];
    let mut reach = 0;
    while reach < words.len() {
        let mut class = 0;
        while class < CLASSES {
            if meets_nobody(ProbeClass::ALL[class], Reach::ALL[reach]) {
                words[reach] |= 1 << class;
            }
            class += 1;
        }
        reach += 1;
    }
    words
};

const _: () = assert!(CLASSES <= 32);

/// As [`meets_nobody`], for the class of this number.
#[inline(always)]
pub const fn class_meets_nobody(class: usize, reach: Reach) -> bool {
    let word = match reach {
        Reach::Open => SHIELDED[Reach::Open as usize],
        Reach::Closed => SHIELDED[Reach::Closed as usize],
        Reach::Unknown => SHIELDED[Reach::Unknown as usize],
        Reach::Dark => SHIELDED[Reach::Dark as usize],
    };
    class < CLASSES && word >> class & 1 != 0
}

/// Whether a packet that leaves by this exit as ordinary met nobody, if this was its reach. Such a packet is a
/// datagram that looks like an answer: it came too late for the socket that asked, or it is a probe in disguise (nmap
/// -g 53).
#[inline(always)]
pub const fn answers_nobody(exit: Exit, reach: Reach) -> bool {
    matches!(exit, Exit::UdpReply) && matches!(reach, Reach::Closed | Reach::Dark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{
            Decision, Home, Oracle, Socket, reach, segment,
            testing::{HOST, Host, flow},
        },
        outcome::{Flow, SegmentKind},
        wire::protocol,
    };

    /// Whether a shield drops a probe that does not depend on sockets.
    fn drops(host: &Host, class: ProbeClass, protocol: u8) -> bool {
        let probe = flow(protocol, 40_000, 80);
        let met = reach(host, matches!(class, ProbeClass::Syn), &probe);
        assert_eq!(class_meets_nobody(class.index(), met), meets_nobody(class, met));
        meets_nobody(class, met)
    }

    /// Whether a shield drops a packet that may belong to a connection.
    fn drops_segment(host: &Host, kind: SegmentKind, flow: &Flow) -> bool {
        match segment(host, kind, flow) {
            Decision::Probe { class, reach } => meets_nobody(class, reach),
            Decision::Ordinary { exit, .. } => answers_nobody(exit, host.unwanted(flow)),
        }
    }

    const DARK: Host = Host { home: Home::Dark, ..HOST };

    #[test]
    fn syns_are_dropped_only_where_nothing_listens() {
        for (name, host, dropped) in [
            ("closed", HOST, true),
            ("dark", DARK, true),
            ("a service", Host { tcp: Socket::Listening, ..HOST }, false),
            ("a call of this host", Host { tcp: Socket::Calling, ..HOST }, false),
            ("a request", Host { tcp: Socket::Pending, ..HOST }, false),
            ("a container's", Host { published: true, ..HOST }, false),
            ("perhaps somebody's", Host { forwards: true, ..HOST }, false),
            ("somebody's who lives", Host { home: Home::Live, ..HOST }, false),
            ("elsewhere", Host { home: Home::Elsewhere, ..HOST }, false),
        ] {
            assert_eq!(drops(&host, ProbeClass::Syn, protocol::TCP), dropped, "{name}");
        }
    }

    #[test]
    fn odd_flags_are_dropped_also_where_a_service_is_but_not_where_it_may_be_another_hosts() {
        for class in [
            ProbeClass::Null,
            ProbeClass::Fin,
            ProbeClass::Xmas,
            ProbeClass::SynFin,
            ProbeClass::SynRst,
            ProbeClass::OddFlags,
        ] {
            for (host, dropped) in [
                (HOST, true),
                (DARK, true),
                (Host { tcp: Socket::Listening, ..HOST }, true),
                (Host { published: true, ..HOST }, true),
                (Host { forwards: true, ..HOST }, false),
                (Host { home: Home::Live, ..HOST }, false),
            ] {
                assert_eq!(drops(&host, class, protocol::TCP), dropped, "{class:?} {host:?}");
            }
        }
    }

    #[test]
    fn segments_of_connections_pass_and_so_does_what_may_be_the_end_of_a_handshake() {
        let segment = flow(protocol::TCP, 40_000, 80);
        for kind in [SegmentKind::Acknowledgment, SegmentKind::Closing, SegmentKind::SynAck] {
            for tcp in [Socket::Connected, Socket::Pending, Socket::Calling, Socket::Listening] {
                assert!(!drops_segment(&Host { tcp, ..HOST }, kind, &segment), "{kind:?} {tcp:?}");
            }
            assert!(drops_segment(&HOST, kind, &segment), "{kind:?} to a closed port");
            assert!(drops_segment(&DARK, kind, &segment), "{kind:?} to a dark address");
            assert!(!drops_segment(&Host { forwards: true, ..HOST }, kind, &segment), "{kind:?} forwarded");
        }
        for tcp in [Socket::None, Socket::Connected, Socket::Pending, Socket::Calling, Socket::Listening] {
            assert!(!drops_segment(&Host { tcp, ..HOST }, SegmentKind::Reset, &segment), "{tcp:?}");
        }
    }

    #[test]
    fn datagrams_are_dropped_where_no_socket_wants_them_also_as_answers() {
        for (source_port, port) in [(40_000, 161), (53, 40_000)] {
            let datagram = flow(protocol::UDP, source_port, port);
            for kind in [SegmentKind::Datagram, SegmentKind::EmptyDatagram] {
                for (host, dropped) in [
                    (HOST, true),
                    (DARK, true),
                    (Host { udp: true, ..HOST }, false),
                    (Host { published: true, ..HOST }, false),
                    (Host { forwards: true, ..HOST }, false),
                    (Host { home: Home::Live, ..HOST }, false),
                ] {
                    assert_eq!(drops_segment(&host, kind, &datagram), dropped, "{source_port} {host:?}");
                }
            }
        }
    }

    #[test]
    fn packets_that_this_host_itself_answers_are_dropped_at_dark_addresses_only() {
        for (class, number) in [
            (ProbeClass::IcmpEcho, protocol::ICMP),
            (ProbeClass::IcmpTimestamp, protocol::ICMP),
            (ProbeClass::IcmpAddressMask, protocol::ICMP),
            (ProbeClass::IcmpInformation, protocol::ICMP),
            (ProbeClass::SctpInit, protocol::SCTP),
            (ProbeClass::SctpCookieEcho, protocol::SCTP),
            (ProbeClass::IpProtocol, 200),
            (ProbeClass::TinyFragment, protocol::TCP),
            (ProbeClass::Land, protocol::TCP),
            (ProbeClass::BadLength, protocol::TCP),
            (ProbeClass::HeaderChain, 0),
        ] {
            assert!(!drops(&HOST, class, number), "{class:?}");
            assert!(!drops(&Host { home: Home::Live, ..HOST }, class, number), "{class:?}");
            assert!(drops(&DARK, class, number), "{class:?}");
        }
    }

    #[test]
    fn a_number_that_is_no_class_is_never_dropped() {
        for class in [CLASSES, CLASSES + 1, 31, 32, 64, usize::MAX] {
            assert!(Reach::ALL.into_iter().all(|reach| !class_meets_nobody(class, reach)), "{class}");
        }
    }
}
