//! What the sockets of this host say of a packet, and what follows from it.
//!
//! The kernel program asks the kernel's socket tables; replay and tests answer from what they know. What
//! follows is decided here, for all of them alike.

use crate::{
    address::Address,
    outcome::{DYNAMIC_START, EPHEMERAL_START, Exit, Flow, ProbeClass, SegmentKind, Service},
    wire::protocol,
};

macro_rules! reaches {
    ($($(#[$meta:meta])* $variant:ident = $label:literal,)+) => {
        /// What a probe met.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Reach { $($(#[$meta])* $variant),+ }

        impl Reach {
            /// All, in the order of their numbers.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// The name in findings and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }

        /// How many [`Reach`] there are.
        pub const REACHES: usize = Reach::ALL.len();
    };
}

reaches! {
    /// A socket that wants it.
    Open = "open",
    /// One of this host's addresses, and no socket.
    Closed = "closed",
    /// Not to be told: an address beyond this host, a port that may be published by NAT or to a container,
    /// or a kind of probe that has no sockets. Never to be taken for closed.
    Unknown = "unknown",
    /// An address of ours from which nobody has ever answered.
    Dark = "dark",
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Home {
    /// This host's own.
    Local,
    /// Within the networks that are routed to this host, and somebody has answered from it.
    Live,
    /// Within those networks, and nobody ever has.
    Dark,
    /// None of ours.
    Elsewhere,
}

/// What the socket tables say of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Socket {
    /// One of this very flow, its handshake completed.
    Connected,
    /// One of this very flow that answered a SYN, its handshake not completed.
    Pending,
    /// One of this very flow by which this host itself asks for a connection that is not there yet.
    Calling,
    /// One that waits for connections to the service.
    Listening,
    /// None.
    None,
}

/// Who can be asked.
pub trait Oracle {
    /// Looks for the socket that wants a TCP segment.
    fn tcp(&self, flow: &Flow) -> Socket;
    /// Whether a socket wants a UDP datagram.
    fn udp(&self, flow: &Flow) -> bool;
    /// Whose an address is.
    fn home(&self, address: Address) -> Home;
    /// Whether a service without a socket here is known to answer at an address (published by NAT or to
    /// a container).
    fn published(&self, address: Address, service: Service) -> bool;
    /// Whether this host forwards: ports without a socket may then be somebody else's.
    fn forwards(&self) -> bool;

    /// What a packet met that no socket wants.
    #[inline(always)]
    fn unwanted(&self, flow: &Flow) -> Reach
    where
        Self: Sized,
    {
        without_socket(self, flow)
    }
}

/// An oracle that knows nothing: everything is elsewhere.
pub struct Blind;

impl Oracle for Blind {
    fn tcp(&self, _flow: &Flow) -> Socket {
        Socket::None
    }

    fn udp(&self, _flow: &Flow) -> bool {
        false
    }

    fn home(&self, _address: Address) -> Home {
        Home::Elsewhere
    }

    fn published(&self, _address: Address, _service: Service) -> bool {
        false
    }

    fn forwards(&self) -> bool {
        true
    }
}

/// What becomes of a packet after the oracle was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It is ordinary.
    Ordinary {
        /// How it leaves.
        exit: Exit,
        /// Whether it ends a handshake before that is complete: a RST in answer to our SYN and ACK. A half-open scan does
        /// so (nmap -sS: its host knows of no such connection), and a client that gave up meanwhile. It is no proof
        /// against the source: where the SYN was forged, the true owner of the address sends that RST.
        aborts: bool,
        /// The flow may be taken as known from now on.
        remember: bool,
    },
    /// It is a probe.
    Probe {
        /// Of this class.
        class: ProbeClass,
        /// That met this.
        reach: Reach,
    },
}

const fn ordinary(exit: Exit, remember: bool) -> Decision {
    Decision::Ordinary { exit, aborts: false, remember }
}

/// What a probe met. Only a SYN asks for a service (`is_syn`); what else stacks do not send is judged by
/// where it goes.
#[inline(always)]
pub fn reach<O: Oracle>(oracle: &O, is_syn: bool, flow: &Flow) -> Reach {
    if is_syn && !matches!(oracle.tcp(flow), Socket::None) {
        return Reach::Open;
    }
    oracle.unwanted(flow)
}

/// What a packet met that no socket wants, from what the oracle says of addresses and services.
#[inline(always)]
pub fn without_socket<O: Oracle>(oracle: &O, flow: &Flow) -> Reach {
    let has_sockets = matches!(flow.service.protocol, protocol::TCP | protocol::UDP);
    match oracle.home(flow.destination) {
        Home::Dark => Reach::Dark,
        Home::Local if has_sockets => {
            if oracle.published(flow.destination, flow.service) {
                Reach::Open
            } else if oracle.forwards() {
                Reach::Unknown
            } else {
                Reach::Closed
            }
        }
        Home::Local | Home::Live | Home::Elsewhere => Reach::Unknown,
    }
}

/// What a packet is that would be a probe if no socket wanted it.
#[inline(always)]
pub fn segment<O: Oracle>(oracle: &O, kind: SegmentKind, flow: &Flow) -> Decision {
    match kind {
        SegmentKind::Datagram => datagram(oracle, ProbeClass::Udp, flow),
        SegmentKind::EmptyDatagram => datagram(oracle, ProbeClass::UdpEmpty, flow),
        SegmentKind::Acknowledgment => tcp(oracle, flow, Exit::TcpEstablished, Some(ProbeClass::Ack)),
        SegmentKind::Closing => tcp(oracle, flow, Exit::TcpClosing, Some(ProbeClass::Maimon)),
        SegmentKind::SynAck => tcp(oracle, flow, Exit::TcpSynAck, Some(syn_ack(flow))),
        SegmentKind::Reset => tcp(oracle, flow, Exit::TcpReset, None),
    }
}

#[inline(always)]
fn tcp<O: Oracle>(oracle: &O, flow: &Flow, exit: Exit, stray: Option<ProbeClass>) -> Decision {
    match (oracle.tcp(flow), stray) {
        (Socket::Pending, None) => Decision::Ordinary { exit, aborts: true, remember: false },
        (Socket::Connected | Socket::Calling, _) | (Socket::Pending, Some(_)) => ordinary(exit, true),
        (Socket::Listening, Some(_)) => ordinary(Exit::TcpStray, false),
        (Socket::Listening | Socket::None, None) => ordinary(exit, false),
        (Socket::None, Some(class)) => match oracle.unwanted(flow) {
            reach @ (Reach::Closed | Reach::Dark) => Decision::Probe { class, reach },
            // A connection of somebody else's, for all that can be told.
            Reach::Open | Reach::Unknown => ordinary(exit, true),
        },
    }
}

/// What a SYN and ACK is that no socket wants: servers answer from the ports of services to the ports of clients. Some listen on
/// ports of clients, and whoever forged the SYN may have chosen any port: one alone says nothing.
#[inline(always)]
fn syn_ack(flow: &Flow) -> ProbeClass {
    if flow.source_port >= EPHEMERAL_START && flow.service.port < DYNAMIC_START {
        ProbeClass::SynAckProbe
    } else {
        ProbeClass::SynAck
    }
}

/// Whether no other host can have this address: nobody is to be accused of what carries it. Packets that this host sends to
/// itself by its loopback interface do.
#[inline(always)]
pub fn is_bad_source<O: Oracle>(oracle: &O, source: Address) -> bool {
    source.is_unspecified() || source.is_loopback() || matches!(oracle.home(source), Home::Local)
}

#[inline(always)]
fn datagram<O: Oracle>(oracle: &O, class: ProbeClass, flow: &Flow) -> Decision {
    if oracle.udp(flow) {
        return ordinary(Exit::UdpOwned, true);
    }
    let looks_like_answer = flow.source_port < 1024 && flow.service.port >= EPHEMERAL_START;
    match oracle.unwanted(flow) {
        Reach::Open => ordinary(Exit::UdpOwned, true),
        // Answers come late, when the socket that asked has gone: resolvers see many of them.
        Reach::Closed | Reach::Unknown if looks_like_answer => ordinary(Exit::UdpReply, false),
        reach => Decision::Probe { class, reach },
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use core::net::Ipv4Addr;

    use super::*;

    /// A host whose answers are set.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Host {
        pub(crate) tcp: Socket,
        pub(crate) udp: bool,
        pub(crate) home: Home,
        pub(crate) published: bool,
        pub(crate) forwards: bool,
    }

    /// An end host without sockets: all its own addresses, nothing forwarded.
    pub(crate) const HOST: Host =
        Host { tcp: Socket::None, udp: false, home: Home::Local, published: false, forwards: false };

    /// From somewhere to somewhere.
    pub(crate) fn flow(protocol: u8, source_port: u16, port: u16) -> Flow {
        Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol, port },
            source_port,
            reserved: 0,
        }
    }

    impl Oracle for Host {
        fn tcp(&self, _flow: &Flow) -> Socket {
            self.tcp
        }
        fn udp(&self, _flow: &Flow) -> bool {
            self.udp
        }
        fn home(&self, _address: Address) -> Home {
            self.home
        }
        fn published(&self, _address: Address, _service: Service) -> bool {
            self.published
        }
        fn forwards(&self) -> bool {
            self.forwards
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{HOST, Host, flow},
        *,
    };

    #[test]
    fn a_syn_meets_what_the_socket_tables_say() {
        let syn = flow(protocol::TCP, 40_000, 80);
        let cases = [
            (Host { tcp: Socket::Listening, ..HOST }, Reach::Open),
            (HOST, Reach::Closed),
            (Host { published: true, ..HOST }, Reach::Open),
            (Host { forwards: true, ..HOST }, Reach::Unknown),
            (Host { forwards: true, published: true, ..HOST }, Reach::Open),
            (Host { home: Home::Elsewhere, ..HOST }, Reach::Unknown),
            (Host { home: Home::Live, ..HOST }, Reach::Unknown),
            (Host { home: Home::Dark, ..HOST }, Reach::Dark),
        ];
        for (place, (host, expected)) in cases.into_iter().enumerate() {
            assert_eq!(reach(&host, true, &syn), expected, "case {place}");
        }
    }

    #[test]
    fn a_ping_is_never_closed() {
        let ping = flow(protocol::ICMP, 0, 0);
        assert_eq!(reach(&HOST, false, &ping), Reach::Unknown);
        let dark = Host { home: Home::Dark, ..HOST };
        assert_eq!(reach(&dark, false, &ping), Reach::Dark);
    }

    #[test]
    fn answers_that_nobody_asked_for_are_probes_where_no_server_would_send_them() {
        for (from, to, class) in [
            (40_000, 80, ProbeClass::SynAckProbe),
            (32_768, 9_999, ProbeClass::SynAckProbe),
            (32_767, 80, ProbeClass::SynAck),
            (443, 80, ProbeClass::SynAck),
            (25_565, 80, ProbeClass::SynAck),
            (40_000, 10_000, ProbeClass::SynAck),
            (443, 50_000, ProbeClass::SynAck),
        ] {
            let decision = segment(&HOST, SegmentKind::SynAck, &flow(protocol::TCP, from, to));
            assert_eq!(decision, Decision::Probe { class, reach: Reach::Closed }, "from {from} to {to}");
        }
    }

    #[test]
    fn addresses_of_no_other_host_are_bad_sources() {
        let address = |text: &str| Address::from(text.parse::<core::net::IpAddr>().unwrap());
        let elsewhere = Host { home: Home::Elsewhere, ..HOST };
        for text in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            assert!(is_bad_source(&elsewhere, address(text)), "{text}");
        }
        assert!(!is_bad_source(&elsewhere, address("192.0.2.1")));
        assert!(is_bad_source(&HOST, address("192.0.2.1")), "this host's own");
        assert!(
            !is_bad_source(&Host { home: Home::Dark, ..HOST }, address("192.0.2.1")),
            "routed to this host"
        );
    }

    #[test]
    fn stray_segments_are_probes_only_where_nothing_listens() {
        let ack = flow(protocol::TCP, 40_000, 80);
        let of = |host: Host, kind| segment(&host, kind, &ack);
        for (kind, class, exit) in [
            (SegmentKind::Acknowledgment, ProbeClass::Ack, Exit::TcpEstablished),
            (SegmentKind::Closing, ProbeClass::Maimon, Exit::TcpClosing),
            (SegmentKind::SynAck, ProbeClass::SynAckProbe, Exit::TcpSynAck),
        ] {
            assert_eq!(of(HOST, kind), Decision::Probe { class, reach: Reach::Closed });
            assert_eq!(of(Host { tcp: Socket::Listening, ..HOST }, kind), ordinary(Exit::TcpStray, false));
            assert_eq!(of(Host { tcp: Socket::Pending, ..HOST }, kind), ordinary(exit, true));
            assert_eq!(of(Host { tcp: Socket::Calling, ..HOST }, kind), ordinary(exit, true));
            assert_eq!(of(Host { forwards: true, ..HOST }, kind), ordinary(exit, true));
            assert_eq!(of(Host { home: Home::Elsewhere, ..HOST }, kind), ordinary(exit, true));
            assert_eq!(of(Host { tcp: Socket::Connected, ..HOST }, kind), ordinary(exit, true));
        }
    }

    #[test]
    fn a_reset_is_never_a_probe() {
        let rst = flow(protocol::TCP, 40_000, 80);
        assert_eq!(segment(&HOST, SegmentKind::Reset, &rst), ordinary(Exit::TcpReset, false));
        let connected = Host { tcp: Socket::Connected, ..HOST };
        assert_eq!(segment(&connected, SegmentKind::Reset, &rst), ordinary(Exit::TcpReset, true));
    }

    #[test]
    fn a_reset_aborts_a_handshake_only_where_a_socket_had_answered() {
        let rst = flow(protocol::TCP, 40_000, 80);
        for (socket, aborts) in [
            (Socket::Pending, true),
            (Socket::Calling, false),
            (Socket::Connected, false),
            (Socket::Listening, false),
            (Socket::None, false),
        ] {
            let decision = segment(&Host { tcp: socket, ..HOST }, SegmentKind::Reset, &rst);
            let aborted = matches!(decision, Decision::Ordinary { aborts: true, .. });
            assert_eq!(aborted, aborts, "{socket:?}");
        }
        let forwarded = Host { forwards: true, home: Home::Elsewhere, ..HOST };
        for host in [forwarded, Host { published: true, ..HOST }] {
            assert_eq!(segment(&host, SegmentKind::Reset, &rst), ordinary(Exit::TcpReset, false));
        }
        assert_eq!(segment(&Blind, SegmentKind::Reset, &rst), ordinary(Exit::TcpReset, false));
    }

    #[test]
    fn udp_is_a_probe_unless_a_socket_wants_it() {
        let (query, answer) = (flow(protocol::UDP, 40_000, 161), flow(protocol::UDP, 53, 40_000));
        let closed = Decision::Probe { class: ProbeClass::Udp, reach: Reach::Closed };
        assert_eq!(segment(&HOST, SegmentKind::Datagram, &query), closed);
        assert_eq!(segment(&HOST, SegmentKind::Datagram, &answer), ordinary(Exit::UdpReply, false));
        let owned = Host { udp: true, ..HOST };
        assert_eq!(segment(&owned, SegmentKind::Datagram, &answer), ordinary(Exit::UdpOwned, true));
        assert_eq!(segment(&Blind, SegmentKind::Datagram, &answer), ordinary(Exit::UdpReply, false));
        let unknown = Decision::Probe { class: ProbeClass::UdpEmpty, reach: Reach::Unknown };
        assert_eq!(segment(&Blind, SegmentKind::EmptyDatagram, &query), unknown);
    }
}
