//! The answers of this host's sockets about a packet, and the decision that follows.
//!
//! The kernel program asks the kernel's socket tables; replay and tests answer from what they know. The decision is
//! made here, in the same way for all of them.

use crate::{
    address::Address,
    outcome::{DYNAMIC_START, EPHEMERAL_START, Exit, Flow, PortRange, ProbeClass, SegmentKind, Service},
    wire::protocol,
};

macro_rules! reaches {
    ($($(#[$meta:meta])* $variant:ident = $label:literal,)+) => {
        /// The result of a probe.
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
    /// A socket wants it.
    Open = "open",
    /// It is for one of this host's addresses, and no socket wants it.
    Closed = "closed",
    /// Nobody can tell: the address is beyond this host, the port may be published by NAT or for a container, or this
    /// kind of probe has no sockets. This must never count as closed.
    Unknown = "unknown",
    /// It is for one of our addresses that has never answered, or for one that only this host could have and does not.
    Dark = "dark",
}

/// The owner of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Home {
    /// To this host.
    Local,
    /// It lies within the networks that are routed to this host, and it has answered.
    Live,
    /// It lies within those networks, and it has never answered.
    Dark,
    /// To somebody else.
    Elsewhere,
}

/// The answer of the socket tables about a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Socket {
    /// A socket of exactly this flow; its handshake is completed.
    Connected,
    /// A socket of exactly this flow that answered a SYN; its handshake is not completed.
    Pending,
    /// A socket of exactly this flow by which this host itself opens a connection that is not there yet.
    Calling,
    /// A socket that listens for connections to the service.
    Listening,
    /// A socket that listens for connections to the service, and that may own addresses of others (IP_TRANSPARENT).
    ListeningForAny,
    /// No socket.
    None,
}

/// Answers questions about sockets and addresses.
pub trait Oracle {
    /// Looks for the socket that wants a TCP segment.
    fn tcp(&self, flow: &Flow) -> Socket;
    /// Whether a socket wants a UDP datagram.
    fn udp(&self, flow: &Flow) -> bool;
    /// The owner of an address.
    fn home(&self, address: Address) -> Home;
    /// Whether a service answers at an address though it has no socket here (it is published by NAT or for a
    /// container).
    fn published(&self, address: Address, service: Service) -> bool;
    /// Whether this host forwards packets: then a port without a socket may belong to another host.
    fn forwards(&self) -> bool;
    /// Whether this host sent something in this flow lately, see [`crate::used`].
    fn used(&self, flow: &Flow) -> bool;
    /// Whether this host calls others from such a port, see [`crate::outcome::PortRange`].
    fn calls_from(&self, port: u16) -> bool;
    /// Whether the packet came to this host as its last hop, and this host forwards nothing: then nobody can be at an
    /// address that is not its own.
    fn is_last_hop(&self) -> bool;
    /// Whether datagrams that leave are seen, so that [`Self::used`] knows them.
    fn sees_leaving(&self) -> bool;

    /// The socket that a TCP segment would get to. A listener on the wildcard address fits all addresses, but it gets
    /// only what is for an address of this host.
    #[inline(always)]
    fn tcp_here(&self, flow: &Flow) -> Socket
    where
        Self: Sized,
    {
        match self.tcp(flow) {
            Socket::Listening if !self.is_here(flow) => Socket::None,
            socket => socket,
        }
    }

    /// Whether a UDP datagram would get to a socket, see [`Self::tcp_here`].
    #[inline(always)]
    fn udp_here(&self, flow: &Flow) -> bool
    where
        Self: Sized,
    {
        self.udp(flow) && self.is_here(flow)
    }

    /// Whether a packet of this flow is for an address of this host.
    #[inline(always)]
    fn is_here(&self, flow: &Flow) -> bool {
        matches!(self.home(flow.destination), Home::Local)
    }

    /// The reach of a packet that no socket wants.
    #[inline(always)]
    fn unwanted(&self, flow: &Flow) -> Reach
    where
        Self: Sized,
    {
        without_socket(self, flow)
    }
}

/// An oracle that knows nothing: every address belongs to somebody else.
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

    fn used(&self, _flow: &Flow) -> bool {
        false
    }

    fn calls_from(&self, port: u16) -> bool {
        PortRange::DEFAULT.calls_from(port)
    }

    fn is_last_hop(&self) -> bool {
        false
    }

    fn sees_leaving(&self) -> bool {
        true
    }
}

/// The decision about a packet, made with the oracle's answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It is ordinary.
    Ordinary {
        /// Its exit.
        exit: Exit,
        /// Whether it ends a handshake too early: it is a RST in answer to our SYN and ACK. A half-open scan does so
        /// (nmap -sS: its host knows of no such connection), and so does a client that gave up meanwhile. It proves
        /// nothing against the source: if the SYN was forged, the true owner of the address sends that RST.
        aborts: bool,
        /// Whether the flow may be remembered as known from now on.
        remember: bool,
    },
    /// It is a probe.
    Probe {
        /// Its class.
        class: ProbeClass,
        /// Its reach.
        reach: Reach,
    },
}

const fn ordinary(exit: Exit, remember: bool) -> Decision {
    Decision::Ordinary { exit, aborts: false, remember }
}

/// The reach of a probe. Only a SYN asks for a service (`is_syn`). Other probes, which no stack sends, are judged by
/// their destination.
#[inline(always)]
pub fn reach<O: Oracle>(oracle: &O, is_syn: bool, flow: &Flow) -> Reach {
    if is_syn && !matches!(oracle.tcp_here(flow), Socket::None) {
        return Reach::Open;
    }
    oracle.unwanted(flow)
}

/// The reach of a packet that no socket wants, from what the oracle says about addresses and services.
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
        Home::Elsewhere if has_sockets && oracle.is_last_hop() => Reach::Dark,
        Home::Local | Home::Live | Home::Elsewhere => Reach::Unknown,
    }
}

/// The decision about a packet that is a probe only if no socket wants it.
#[inline(always)]
pub fn segment<O: Oracle>(oracle: &O, kind: SegmentKind, flow: &Flow) -> Decision {
    match kind {
        SegmentKind::Datagram => datagram(oracle, ProbeClass::Udp, flow),
        SegmentKind::EmptyDatagram => datagram(oracle, ProbeClass::UdpEmpty, flow),
        SegmentKind::Acknowledgment => tcp(oracle, flow, Exit::TcpEstablished, Some(ProbeClass::Ack)),
        SegmentKind::Closing => tcp(oracle, flow, Exit::TcpClosing, Some(ProbeClass::Maimon)),
        SegmentKind::SynAck => tcp(oracle, flow, Exit::TcpSynAck, Some(syn_ack(oracle, flow))),
        SegmentKind::Reset => tcp(oracle, flow, Exit::TcpReset, None),
    }
}

#[inline(always)]
fn tcp<O: Oracle>(oracle: &O, flow: &Flow, exit: Exit, stray: Option<ProbeClass>) -> Decision {
    match (oracle.tcp_here(flow), stray) {
        (Socket::Pending, None) => Decision::Ordinary { exit, aborts: true, remember: false },
        (Socket::Connected | Socket::Calling, _) | (Socket::Pending, Some(_)) => ordinary(exit, true),
        (Socket::Listening | Socket::ListeningForAny, Some(_)) => ordinary(Exit::TcpStray, false),
        (Socket::Listening | Socket::ListeningForAny | Socket::None, None) => ordinary(exit, false),
        (Socket::None, Some(class)) => match oracle.unwanted(flow) {
            reach @ (Reach::Closed | Reach::Dark) => stranger(oracle, class, reach, flow),
            // As far as anybody can tell, it belongs to a connection of another host.
            Reach::Open | Reach::Unknown => ordinary(exit, true),
        },
    }
}

/// The decision about a packet that no socket wants and that may be an answer. In a flow that this host used lately, it
/// is one that came too late.
#[inline(always)]
fn stranger<O: Oracle>(oracle: &O, class: ProbeClass, reach: Reach, flow: &Flow) -> Decision {
    if oracle.used(flow) { ordinary(Exit::LateAnswer, false) } else { Decision::Probe { class, reach } }
}

/// The first port that is no system port (RFC 6335, 6). No client calls from those, wherever its server listens.
const USER_START: u16 = 1_024;

/// The class of a SYN and ACK that no socket wants. Servers answer from the ports of services to the ports of clients.
/// But some servers listen on ports of clients, and the sender of a forged SYN may have chosen any port: one such
/// segment alone says nothing.
#[inline(always)]
fn syn_ack<O: Oracle>(oracle: &O, flow: &Flow) -> ProbeClass {
    let port = flow.service.port;
    let is_of_service = port < USER_START || flow.source_port >= EPHEMERAL_START && port < DYNAMIC_START;
    if is_of_service && !oracle.calls_from(port) { ProbeClass::SynAckProbe } else { ProbeClass::SynAck }
}

/// Whether no other host can have this address. Then no source is accused of the packet. Packets that this host sends
/// to itself over its loopback interface have such addresses.
#[inline(always)]
pub fn is_bad_source<O: Oracle>(oracle: &O, source: Address) -> bool {
    source.is_unspecified() || source.is_loopback() || matches!(oracle.home(source), Home::Local)
}

#[inline(always)]
fn datagram<O: Oracle>(oracle: &O, class: ProbeClass, flow: &Flow) -> Decision {
    if oracle.udp_here(flow) {
        return ordinary(Exit::UdpOwned, true);
    }
    match oracle.unwanted(flow) {
        Reach::Open => ordinary(Exit::UdpOwned, true),
        // Answers may come late, when the socket that asked is gone. Resolvers see many of these.
        Reach::Closed | Reach::Unknown if looks_like_answer(oracle, flow) => ordinary(Exit::UdpReply, false),
        reach => stranger(oracle, class, reach, flow),
    }
}

/// The port of DNS.
const DOMAIN: u16 = 53;

/// Whether a datagram goes from the port of a service to one from which clients ask. Resolvers ask from all ports above
/// 1023, whatever the kernel's range is (unbound, PowerDNS). Where nothing that leaves is seen, nobody knows the
/// late answers to them from probes.
#[inline(always)]
fn looks_like_answer<O: Oracle>(oracle: &O, flow: &Flow) -> bool {
    let port = flow.service.port;
    flow.source_port < 1024 && oracle.calls_from(port)
        || flow.source_port == DOMAIN && port >= 1024 && !oracle.sees_leaving()
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
        pub(crate) used: bool,
        pub(crate) ports: PortRange,
        pub(crate) sees_leaving: bool,
        pub(crate) is_last_hop: bool,
    }

    /// An end host without sockets: it owns all addresses, forwards nothing and sent nothing.
    pub(crate) const HOST: Host = Host {
        tcp: Socket::None,
        udp: false,
        home: Home::Local,
        published: false,
        forwards: false,
        used: false,
        ports: PortRange::DEFAULT,
        sees_leaving: true,
        is_last_hop: false,
    };

    /// A flow between two fixed hosts.
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
        fn used(&self, _flow: &Flow) -> bool {
            self.used
        }
        fn calls_from(&self, port: u16) -> bool {
            self.ports.calls_from(port)
        }
        fn sees_leaving(&self) -> bool {
            self.sees_leaving
        }
        fn is_last_hop(&self) -> bool {
            self.is_last_hop
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
            (Host { tcp: Socket::Listening, home: Home::Dark, ..HOST }, Reach::Dark),
            (Host { tcp: Socket::Listening, home: Home::Live, ..HOST }, Reach::Unknown),
            (Host { tcp: Socket::Listening, home: Home::Elsewhere, ..HOST }, Reach::Unknown),
            (Host { tcp: Socket::ListeningForAny, home: Home::Elsewhere, ..HOST }, Reach::Open),
            (Host { tcp: Socket::Connected, home: Home::Elsewhere, ..HOST }, Reach::Open),
            (HOST, Reach::Closed),
            (Host { published: true, ..HOST }, Reach::Open),
            (Host { forwards: true, ..HOST }, Reach::Unknown),
            (Host { forwards: true, published: true, ..HOST }, Reach::Open),
            (Host { home: Home::Elsewhere, ..HOST }, Reach::Unknown),
            (Host { home: Home::Elsewhere, is_last_hop: true, ..HOST }, Reach::Dark),
            (Host { home: Home::Live, is_last_hop: true, ..HOST }, Reach::Unknown),
            (Host { is_last_hop: true, ..HOST }, Reach::Closed),
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
            (443, 80, ProbeClass::SynAckProbe),
            (25_565, 1_023, ProbeClass::SynAckProbe),
            (443, 1_024, ProbeClass::SynAck),
            (32_767, 9_999, ProbeClass::SynAck),
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
    fn what_comes_late_in_a_flow_that_this_host_used_is_no_probe() {
        let late = ordinary(Exit::LateAnswer, false);
        for home in [Home::Local, Home::Dark] {
            let host = Host { used: true, home, ..HOST };
            for kind in [SegmentKind::Acknowledgment, SegmentKind::Closing, SegmentKind::SynAck] {
                assert_eq!(segment(&host, kind, &flow(protocol::TCP, 8080, 2_000)), late, "{kind:?}");
            }
            for kind in [SegmentKind::Datagram, SegmentKind::EmptyDatagram] {
                assert_eq!(segment(&host, kind, &flow(protocol::UDP, 5_353, 2_000)), late, "{kind:?}");
            }
        }
        let used = Host { used: true, ..HOST };
        // A packet that a socket wants is not late, and a SYN is no answer.
        let owned = Host { udp: true, ..used };
        let answer = flow(protocol::UDP, 53, 2_000);
        assert_eq!(segment(&owned, SegmentKind::Datagram, &answer), ordinary(Exit::UdpOwned, true));
        assert_eq!(reach(&used, true, &flow(protocol::TCP, 8080, 2_000)), Reach::Closed);
    }

    #[test]
    fn answers_are_those_to_ports_from_which_this_host_calls() {
        let probe = Decision::Probe { class: ProbeClass::Udp, reach: Reach::Closed };
        let reply = ordinary(Exit::UdpReply, false);
        let wide = Host { ports: PortRange { first: 1_024, last: 65_535 }, ..HOST };
        let one = Host { ports: PortRange { first: 5_000, last: 5_000 }, ..HOST };
        let deaf = Host { sees_leaving: false, ..HOST };
        for (name, host, from, to, expected) in [
            ("default", HOST, 123, 2_000, probe),
            ("wide", wide, 123, 2_000, reply),
            ("wide, to a service", wide, 123, 1_023, probe),
            ("wide, from no service", wide, 5_353, 2_000, probe),
            ("one port", one, 123, 5_000, reply),
            ("beside it", one, 123, 5_001, probe),
            ("a resolver's, where what leaves is seen", HOST, 53, 2_000, probe),
            ("a resolver's, where it is not", deaf, 53, 2_000, reply),
            ("that of another service", deaf, 123, 2_000, probe),
            ("a resolver's, to a service", deaf, 53, 500, probe),
        ] {
            let decision = segment(&host, SegmentKind::Datagram, &flow(protocol::UDP, from, to));
            assert_eq!(decision, expected, "{name}");
        }
        let syn_ack = |host| segment(&host, SegmentKind::SynAck, &flow(protocol::TCP, 40_000, 2_000));
        let class = |class| Decision::Probe { class, reach: Reach::Closed };
        assert_eq!(syn_ack(HOST), class(ProbeClass::SynAckProbe));
        assert_eq!(syn_ack(wide), class(ProbeClass::SynAck), "this host may have called from there");
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
