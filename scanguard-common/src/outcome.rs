//! The possible results for a frame: the probe classes and the exits of the kernel program.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// An enumeration without data: each variant has a label, its number is its place in arrays. It gets `ALL`, `label`,
/// `from_label` and `index`, and, if a name stands in brackets, a constant of that name: how many variants there are.
#[macro_export]
macro_rules! numbered {
    (
        $(#[$meta:meta])* $name:ident$([$count:ident])? {
            $($(#[$variant_meta:meta])* $variant:ident = $label:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// The name in metrics, findings and configuration.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// The one with this label.
            pub fn from_label(label: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.label() == label)
            }

            /// Its place in arrays of counters.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        $(
            #[doc = concat!("How many [`", stringify!($name), "`] there are.")]
            pub const $count: usize = $name::ALL.len();
        )?
    };
}
pub use numbered;

numbered! {
    /// The kind of a probe, in the words of nmap and hping. The flags of ECN are ignored.
    ProbeClass[PROBE_CLASSES] {
        /// TCP SYN alone: a connection attempt, a half-open scan (nmap -sS) or a connect scan (-sT).
        Syn = "syn",
        /// TCP without any flag (nmap -sN).
        Null = "null",
        /// TCP FIN alone (nmap -sF).
        Fin = "fin",
        /// TCP FIN, PSH and URG (nmap -sX).
        Xmas = "xmas",
        /// TCP SYN and FIN, whatever else is set.
        SynFin = "syn_fin",
        /// TCP SYN and RST without FIN.
        SynRst = "syn_rst",
        /// TCP flags that no stack sends and no other class names.
        OddFlags = "odd_flags",
        /// ICMP or ICMPv6 echo request (nmap -PE).
        IcmpEcho = "icmp_echo",
        /// ICMP timestamp request (nmap -PP).
        IcmpTimestamp = "icmp_timestamp",
        /// ICMP address mask request (nmap -PM).
        IcmpAddressMask = "icmp_address_mask",
        /// ICMP information request, or ICMPv6 node information query.
        IcmpInformation = "icmp_information",
        /// UDP with data (nmap -sU sends it to ports whose service it knows).
        Udp = "udp",
        /// UDP without data (nmap -sU).
        UdpEmpty = "udp_empty",
        /// SCTP INIT (nmap -sY).
        SctpInit = "sctp_init",
        /// SCTP COOKIE-ECHO (nmap -sZ).
        SctpCookieEcho = "sctp_cookie_echo",
        /// An IP protocol that hosts do not speak, or a known one without content (nmap -sO).
        IpProtocol = "ip_protocol",
        /// A first fragment too short to show the transport header, or one that would overwrite
        /// it (RFC 1858; nmap -f, hping3 -f).
        TinyFragment = "tiny_fragment",
        /// Source and destination address are the same.
        Land = "land",
        /// A transport header whose lengths cannot be true.
        BadLength = "bad_length",
        /// TCP ACK alone, without data, to a port where no socket wants it (nmap -sA, -sW).
        Ack = "ack",
        /// TCP FIN and ACK to a closed port, which no socket wants (nmap -sM).
        Maimon = "maimon",
        /// TCP SYN and ACK that no socket wants: a probe, or the answer to a SYN with this host's
        /// address forged into it (backscatter).
        SynAck = "syn_ack",
        /// TCP SYN and ACK that no socket wants, to a port from which no client calls: a system port, or from a port of
        /// clients to one of services. Servers answer so only to forged SYNs from such ports (nmap --scanflags SYNACK).
        SynAckProbe = "syn_ack_probe",
        /// IPv6 with extension headers that cannot be followed to their end: there are more than fit into a packet of
        /// 1,500 bytes, or they are not all in the first fragment (RFC 7112). No stack sends that, and anything may be
        /// behind them.
        HeaderChain = "header_chain",
    }
}

numbered! {
    /// How a packet leaves the program. Each packet is counted under exactly one.
    Exit[EXITS] {
        /// A probe, counted for its source.
        Probe = "probe",
        /// A probe whose source found no room in the table. Only the totals by class have it.
        TableFull = "table_full",
        /// A probe of a source that the admission filter has not admitted to the table yet. Only the totals by class
        /// have it.
        AtTheDoor = "at_the_door",
        /// A packet of a banned source: dropped.
        Banned = "banned",
        /// A probe that meets nobody, of a held source: counted for the source and dropped, see [`crate::hold`].
        Held = "held",
        /// A packet that meets nobody, of a shielded source: counted for the source and dropped, see
        /// [`crate::shield`].
        Shielded = "shielded",
        /// A TCP segment with ACK and without SYN, FIN or RST.
        TcpEstablished = "tcp_established",
        /// A TCP segment with FIN and ACK: the end of a connection.
        TcpClosing = "tcp_closing",
        /// TCP SYN and ACK: a listener answers.
        TcpSynAck = "tcp_syn_ack",
        /// TCP RST, with or without ACK.
        TcpReset = "tcp_reset",
        /// A TCP segment that belongs to no connection, to a port where a service listens. Such segments remain from
        /// connections after a restart or a timeout on the way.
        TcpStray = "tcp_stray",
        /// UDP that a socket of this host wants.
        UdpOwned = "udp_owned",
        /// UDP that no socket here wants, from a port below 1024 to one from which this host calls: the answer of a
        /// service, which is for another host or came too late.
        UdpReply = "udp_reply",
        /// A segment or datagram that no socket wants, from where this host itself sent something lately, to the very
        /// port that it sent from: an answer that came too late. See [`crate::used`].
        LateAnswer = "late_answer",
        /// UDP to a link-layer group: multicast or broadcast.
        UdpMulticast = "udp_multicast",
        /// ICMP and ICMPv6 other than the requests that probe.
        IcmpOther = "icmp_other",
        /// SCTP chunks that do not open an association.
        SctpOther = "sctp_other",
        /// A later fragment: its transport header was in an earlier packet.
        Fragment = "fragment",
        /// A routing, tunnel or security protocol with content.
        ProtocolOther = "protocol_other",
        /// ARP and other frames that are not IP.
        NotIp = "not_ip",
        /// More VLAN tags than the program follows, see [`crate::parse::deep::MAX_TAGS`].
        UnsupportedVlan = "unsupported_vlan",
        /// The frame ends within its Ethernet header or tags.
        TruncatedEthernet = "truncated_ethernet",
        /// The frame ends within its IP header or extension headers, or before the IP length.
        TruncatedIp = "truncated_ip",
        /// The IP version does not match the EtherType.
        BadIpVersion = "bad_ip_version",
        /// The IPv4 header or total length is impossible.
        BadIpLength = "bad_ip_length",
        /// No other host can have this source address: it is an IPv4 address within IPv6 (::ffff:0:0/96) or a group.
        /// For a packet that would be a probe, it may also be the unspecified address, loopback, or an address of this
        /// host. No source is accused of such a packet.
        BadSource = "bad_source",
    }
}

numbered! {
    /// How a packet leaves the egress program. Each packet is counted under exactly one.
    EgressExit[EGRESS_EXITS] {
        /// An answer, counted for the source that it goes to.
        Answer = "answer",
        /// An answer to a host that is not in the table of sources. Only the totals by kind have it.
        AnswerUnmatched = "answer_unmatched",
        /// A TCP segment that is no answer.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// ICMP and ICMPv6 that is no answer.
        IcmpOther = "icmp_other",
        /// Any other protocol over IP.
        Other = "other",
        /// A later fragment: its transport header was in an earlier packet.
        Fragment = "fragment",
        /// ARP and other frames that are not IP.
        NotIp = "not_ip",
        /// The headers cannot be read: they are malformed, lie deeper than the program follows, or are not in the
        /// packet's first buffer.
        Unreadable = "unreadable",
    }
}

numbered! {
    /// The kind of an answer to a source.
    Answer[ANSWERS] {
        /// TCP SYN and ACK: there is a service.
        SynAck = "syn_ack",
        /// TCP RST: there is no service.
        Reset = "reset",
        /// ICMP destination unreachable: there is no service, or it is not open to all.
        Unreachable = "unreachable",
        /// ICMP echo reply and similar: the address is in use.
        Reply = "reply",
    }
}

/// From this port on, systems hand ports out rather than assign them: FTP data, RPC, RTP, and, from
/// [`EPHEMERAL_START`] on, the client side of connections.
pub const DYNAMIC_START: u16 = 10_000;

/// The first port of Linux's default `ip_local_port_range`.
pub const EPHEMERAL_START: u16 = 32_768;

/// The ports from which a host's kernel calls others: net.ipv4.ip_local_port_range.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// Linux's default.
    pub const DEFAULT: Self = Self { first: EPHEMERAL_START, last: 60_999 };

    /// Whether a host with this range may call others from a port. From [`EPHEMERAL_START`] on it may in any case:
    /// NAT and programs choose ports there by themselves.
    #[inline(always)]
    pub const fn calls_from(self, port: u16) -> bool {
        port >= EPHEMERAL_START || self.first <= port && port <= self.last
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    /// The class of the probe.
    pub class: ProbeClass,
    /// The flow of the probe.
    pub flow: Flow,
}

/// Where a probe comes from and where it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Flow {
    /// The sender's address, unmasked.
    pub source: Address,
    /// The target address.
    pub destination: Address,
    /// The target service.
    pub service: Service,
    /// Source port in host byte order, 0 if there is none.
    pub source_port: u16,
    /// Explicit padding.
    pub reserved: u16,
}

impl Flow {
    /// The flow in the other direction.
    #[inline(always)]
    pub fn turned(&self) -> Self {
        let service = Service { port: self.source_port, ..self.service };
        Self {
            source: self.destination,
            destination: self.source,
            service,
            source_port: self.service.port,
            reserved: 0,
        }
    }
}

/// A packet that is a probe only if no socket wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Its kind.
    pub kind: SegmentKind,
    /// Its flow.
    pub flow: Flow,
}

/// Packets that may belong to a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentKind {
    /// TCP ACK without data.
    Acknowledgment,
    /// TCP FIN and ACK.
    Closing,
    /// TCP SYN and ACK.
    SynAck,
    /// TCP RST.
    Reset,
    /// UDP with data.
    Datagram,
    /// UDP without data.
    EmptyDatagram,
}

impl SegmentKind {
    /// Its place in [`Self::ALL`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The one at this place.
    #[inline(always)]
    pub const fn from_index(index: usize) -> Option<Self> {
        match index {
            0 => Some(Self::Acknowledgment),
            1 => Some(Self::Closing),
            2 => Some(Self::SynAck),
            3 => Some(Self::Reset),
            4 => Some(Self::Datagram),
            5 => Some(Self::EmptyDatagram),
            _ => None,
        }
    }

    /// All.
    pub const ALL: [Self; 6] =
        [Self::Acknowledgment, Self::Closing, Self::SynAck, Self::Reset, Self::Datagram, Self::EmptyDatagram];
}

/// The target of a probe on a host: a transport port, a protocol, or only the host.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(C)]
pub struct Service {
    /// IP protocol number of the transport; for [`ProbeClass::IpProtocol`] the probed protocol.
    pub protocol: u8,
    /// Destination port in host byte order, 0 if there is none.
    pub port: u16,
}

/// The decision about a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Count it for its source.
    Probe(Probe),
    /// Count it for its source if no socket wants it.
    Segment(Segment),
    /// It is no probe, or it cannot be read. Count it only under this exit.
    Exit(Exit),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_calls_from_its_range_and_from_where_programs_choose() {
        for (first, last, port, calls) in [
            (1_024, 65_535, 1_023, false),
            (1_024, 65_535, 1_024, true),
            (5_000, 5_000, 5_000, true),
            (5_000, 5_000, 5_001, false),
            (5_000, 5_000, 32_768, true),
            (32_768, 60_999, 32_767, false),
            (32_768, 60_999, 65_535, true),
        ] {
            assert_eq!(PortRange { first, last }.calls_from(port), calls, "{first}-{last}: {port}");
        }
    }

    #[test]
    fn labels_are_unique_and_lead_back() {
        for class in ProbeClass::ALL {
            assert_eq!(ProbeClass::from_label(class.label()), Some(class));
        }
        for exit in Exit::ALL {
            assert_eq!(Exit::from_label(exit.label()), Some(exit));
        }
    }
}
