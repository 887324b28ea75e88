//! Header layouts on the wire. All are unaligned, and any bytes are valid.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::address::Address;

/// A header that can be viewed in place: any bytes are a valid value, at any alignment.
pub trait Wire: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<const N: usize> Wire for [u8; N] {}

macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),+ $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type),+ }
        impl Wire for $name {}
    )+};
}

wire! {
    /// Ethernet II header (IEEE 802.3).
    Ethernet {
        /// Destination; the lowest bit of the first byte marks a group (multicast or broadcast).
        destination: [u8; 6],
        /// Source.
        source: [u8; 6],
        /// The type of the next header, see [`ethertype`].
        ethertype: U16,
    }
    /// The rest of an 802.1Q or 802.1ad tag behind its type: control information and the next type.
    VlanTag {
        /// Priority, drop eligibility and VLAN id.
        control: U16,
        /// The type of the next header, see [`ethertype`].
        ethertype: U16,
    }
    /// PPPoE session header with the protocol of PPP (RFC 2516).
    Pppoe {
        /// Version and type: 0x11.
        version_type: u8,
        /// 0 in a session.
        code: u8,
        /// The session.
        session: U16,
        /// Length of everything behind this field, in bytes.
        length: U16,
        /// See [`ppp`].
        protocol: U16,
    }
    /// IPv4 header without options (RFC 791).
    Ipv4 {
        /// Version in the upper four bits, header length in 32-bit words in the lower four.
        version_ihl: u8,
        /// Differentiated services and ECN.
        tos: u8,
        /// Header and payload in bytes.
        total_length: U16,
        /// Identification.
        id: U16,
        /// Flags (bit 13: more fragments, bit 14: don't fragment), offset in units of 8 bytes.
        fragment: U16,
        /// Time to live.
        ttl: u8,
        /// See [`protocol`].
        protocol: u8,
        /// Header checksum; not verified.
        checksum: U16,
        /// Source address.
        source: [u8; 4],
        /// Destination address.
        destination: [u8; 4],
    }
    /// IPv6 header (RFC 8200).
    Ipv6 {
        /// Version in the upper four bits, then traffic class and flow label.
        version_class_flow: [u8; 4],
        /// Length of everything behind this header, in bytes; 0 for jumbograms (RFC 2675).
        payload_length: U16,
        /// See [`protocol`].
        next_header: u8,
        /// Hop limit.
        hop_limit: u8,
        /// Source address.
        source: [u8; 16],
        /// Destination address.
        destination: [u8; 16],
    }
    /// Start of an IPv6 extension header: each kind has at least eight bytes (RFC 8200, RFC 4302).
    Extension {
        /// See [`protocol`].
        next_header: u8,
        /// Length. Its unit and its start depend on the kind of header; a fragment header has no length.
        length: u8,
        /// In a fragment header (RFC 8200, 4.5): the offset in units of 8 bytes in the upper 13 bits; bit 0: more
        /// fragments.
        fragment: U16,
        /// In a fragment header: identification.
        id: [u8; 4],
    }
    /// TCP header without options (RFC 9293).
    Tcp {
        /// Source port.
        source: U16,
        /// Destination port.
        destination: U16,
        /// Sequence number.
        sequence: [u8; 4],
        /// Acknowledgment number.
        acknowledgment: [u8; 4],
        /// Header length in 32-bit words in the upper four bits.
        data_offset: u8,
        /// See [`tcp_flags`].
        flags: u8,
        /// Receive window.
        window: U16,
        /// Checksum; not verified.
        checksum: U16,
        /// Urgent pointer.
        urgent: U16,
    }
    /// UDP header (RFC 768).
    Udp {
        /// Source port.
        source: U16,
        /// Destination port.
        destination: U16,
        /// Header and payload in bytes; 0 only in IPv6 jumbograms (RFC 2675).
        length: U16,
        /// Checksum; not verified.
        checksum: U16,
    }
    /// SCTP common header (RFC 9260, 3.1).
    Sctp {
        /// Source port.
        source: U16,
        /// Destination port.
        destination: U16,
        /// Verification tag.
        tag: [u8; 4],
        /// Checksum; not verified.
        checksum: [u8; 4],
    }
    /// Start of an SCTP chunk (RFC 9260, 3.2).
    SctpChunk {
        /// See [`sctp_chunk`].
        kind: u8,
        /// Flags.
        flags: u8,
        /// Length in bytes, this header included.
        length: U16,
    }
    /// Start of an ICMP (RFC 792) or ICMPv6 (RFC 4443) message.
    Icmp {
        /// See [`icmp`] and [`icmp6`].
        kind: u8,
        /// Code.
        code: u8,
        /// Checksum; not verified.
        checksum: U16,
    }
    /// The ports at the start of TCP, UDP and SCTP: even a tiny first fragment has them.
    Ports {
        /// Source port.
        source: U16,
        /// Destination port.
        destination: U16,
    }
    /// An untagged TCP segment over IPv4 without options, viewed at once: most traffic has this form.
    PlainTcp4 {
        /// Ethernet header.
        ethernet: Ethernet,
        /// IPv4 header.
        ip: Ipv4,
        /// TCP header.
        tcp: Tcp,
    }
    /// An untagged TCP segment over IPv6 without extension headers.
    PlainTcp6 {
        /// Ethernet header.
        ethernet: Ethernet,
        /// IPv6 header.
        ip: Ipv6,
        /// TCP header.
        tcp: Tcp,
    }
    /// An untagged ICMPv6 message without extension headers.
    PlainIcmp6 {
        /// Ethernet header.
        ethernet: Ethernet,
        /// IPv6 header.
        ip: Ipv6,
        /// The message.
        icmp: Icmp,
    }
}

impl Tcp {
    /// Length in bytes, options included.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }
}

impl Ipv4 {
    /// The source and destination addresses.
    #[inline(always)]
    pub fn addresses(&self) -> (Address, Address) {
        (Address::from_v4(&self.source), Address::from_v4(&self.destination))
    }

    /// Whether the transport header follows at once and whole: it is version 4 with a header of five words, hence
    /// without options, and no fragment. The don't-fragment flag and the reserved bit do not matter.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_ihl == 0x45 && self.fragment.get() & 0x3fff == 0
    }
}

impl Ipv6 {
    /// The source and destination addresses.
    #[inline(always)]
    pub fn addresses(&self) -> (Address, Address) {
        (Address::from_v6(&self.source), Address::from_v6(&self.destination))
    }
}

/// EtherTypes (IEEE 802 numbers, IANA).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// The tag type of QinQ equipment older than 802.1ad.
    pub const OLD_SERVICE_VLAN: u16 = 0x9100;
    /// A PPPoE session.
    pub const PPPOE_SESSION: u16 = 0x8864;
    /// Reserved: the type of what cannot be read.
    pub const NONE: u16 = 0;
}

/// Protocol numbers of PPP (IANA).
pub mod ppp {
    /// IPv4.
    pub const IPV4: u16 = 0x0021;
    /// IPv6.
    pub const IPV6: u16 = 0x0057;
}

/// Protocol numbers (IANA), the IPv6 extension headers among them.
pub mod protocol {
    /// IPv6 hop-by-hop options; in IPv4 the unused HOPOPT.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP (6in4).
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// IPsec encapsulating security payload.
    pub const ESP: u8 = 50;
    /// IPsec authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 no next header.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// EIGRP.
    pub const EIGRP: u8 = 88;
    /// OSPF.
    pub const OSPF: u8 = 89;
    /// PIM.
    pub const PIM: u8 = 103;
    /// VRRP (and CARP).
    pub const VRRP: u8 = 112;
    /// L2TPv3.
    pub const L2TP: u8 = 115;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// TCP header flags (RFC 9293, 3.1; RFC 3168).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// The six flags of RFC 793: what remains when ECN's ECE and CWR are masked out.
    pub const CLASSIC: u8 = FIN | SYN | RST | PSH | ACK | URG;
}

/// ICMP types (RFC 792, RFC 950).
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Timestamp request.
    pub const TIMESTAMP: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Information request (obsolete since RFC 1122).
    pub const INFORMATION: u8 = 15;
    /// Information reply (obsolete since RFC 1122).
    pub const INFORMATION_REPLY: u8 = 16;
    /// Address mask request (obsolete since RFC 6918).
    pub const ADDRESS_MASK: u8 = 17;
    /// Address mask reply (obsolete since RFC 6918).
    pub const ADDRESS_MASK_REPLY: u8 = 18;
}

/// ICMPv6 types (RFC 4443, RFC 4620).
pub mod icmp6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation, the first message of Neighbour Discovery (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Node information query.
    pub const NODE_INFORMATION: u8 = 139;
    /// Node information reply.
    pub const NODE_INFORMATION_REPLY: u8 = 140;
}

/// SCTP chunk types (RFC 9260, 3.2).
pub mod sctp_chunk {
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Third step of the handshake.
    pub const COOKIE_ECHO: u8 = 10;
}
