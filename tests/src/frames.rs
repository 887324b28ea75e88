//! Frames for tests, put together from etherparse's headers: another writer than the parser under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader, VlanId, VlanPcp,
};

/// Who sends the frames of the table.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// Where they go.
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// As above.
pub const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 1, 2, 3, 4);
/// As above.
pub const DESTINATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 1);

const MAC_SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MAC_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 0xfb];

/// TCP flags as a bit set, see `scanguard_common::wire::tcp_flags`.
pub fn tcp(flags: u8, port: u16) -> Vec<u8> {
    let mut header = TcpHeader::new(40_000, port, 1, 1024);
    header.fin = flags & 1 != 0;
    header.syn = flags & 2 != 0;
    header.rst = flags & 4 != 0;
    header.psh = flags & 8 != 0;
    header.ack = flags & 16 != 0;
    header.urg = flags & 32 != 0;
    header.ece = flags & 64 != 0;
    header.cwr = flags & 128 != 0;
    header.to_bytes().to_vec()
}

/// A UDP datagram.
pub fn udp(source: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("short");
    let header = UdpHeader { source_port: source, destination_port: port, length, checksum: 0 };
    [&header.to_bytes(), payload].concat()
}

/// An ICMP or ICMPv6 message with eight bytes.
pub fn icmp(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 1, 0, 1]
}

/// An SCTP packet with one chunk of this type.
pub fn sctp(port: u16, chunk: u8) -> Vec<u8> {
    let mut packet = 40_000u16.to_be_bytes().to_vec();
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend([0; 16]);
    packet
}

/// What can be odd about an IPv4 packet.
#[derive(Clone, Debug, Default)]
pub struct V4 {
    /// Protocol number.
    pub protocol: u8,
    /// Bytes of options, a multiple of 4.
    pub options: usize,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Sender, if not [`SOURCE`].
    pub source: Option<Ipv4Addr>,
    /// Receiver, if not [`DESTINATION`].
    pub destination: Option<Ipv4Addr>,
}

/// A frame with an IPv4 packet.
pub fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_with(&V4 { protocol, ..V4::default() }, payload)
}

/// As [`v4`], with something odd.
pub fn v4_with(with: &V4, payload: &[u8]) -> Vec<u8> {
    ethernet(EtherType::IPV4, &v4_packet(with, payload))
}

/// The packet alone.
pub fn v4_packet(with: &V4, payload: &[u8]) -> Vec<u8> {
    let options = Ipv4Options::try_from(vec![1u8; with.options].as_slice()).expect("a multiple of 4");
    let mut header = Ipv4Header::new(
        u16::try_from(payload.len()).expect("short"),
        64,
        IpNumber(with.protocol),
        with.source.unwrap_or(SOURCE).octets(),
        with.destination.unwrap_or(DESTINATION).octets(),
    )
    .expect("short");
    header.options = options;
    header.set_payload_len(payload.len()).expect("short");
    header.fragment_offset = IpFragOffset::try_new(with.offset).expect("13 bits");
    header.more_fragments = with.more;
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), payload].concat()
}

/// A frame with an IPv6 packet; extension headers are part of the payload.
pub fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(EtherType::IPV6, &v6_packet(next_header, payload))
}

/// The packet alone.
pub fn v6_packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: u16::try_from(payload.len()).expect("short"),
        next_header: IpNumber(next_header),
        hop_limit: 64,
        source: SOURCE6.octets(),
        destination: DESTINATION6.octets(),
    };
    [header.to_bytes().as_slice(), payload].concat()
}

/// An extension header of 8 bytes (hop-by-hop, routing, destination options), before `payload`.
pub fn extension(next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

/// The longest extension header, of 2,048 bytes, before `payload`.
pub fn long_extension(next_header: u8, payload: &[u8]) -> Vec<u8> {
    options(2_048, next_header, payload)
}

/// An extension header of so many bytes, a multiple of 8, before `payload`: options that are padding (RFC 8200, 4.2).
pub fn options(len: usize, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, u8::try_from(len / 8 - 1).expect("at most 2,048 bytes")];
    while header.len() < len {
        let padding = (len - header.len()).min(257) - 2;
        header.extend([1, u8::try_from(padding).expect("at most 255")]);
        header.extend(vec![0; padding]);
    }
    [header.as_slice(), payload].concat()
}

/// An authentication header of 24 bytes, before `payload`.
pub fn authentication(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 24];
    header[0] = next_header;
    header[1] = 4;
    [header.as_slice(), payload].concat()
}

/// An IPv6 fragment header, before `payload`.
pub fn fragment6(next_header: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let offset = IpFragOffset::try_new(offset).expect("13 bits");
    let header = Ipv6FragmentHeader::new(IpNumber(next_header), offset, more, 7);
    [header.to_bytes().as_slice(), payload].concat()
}

/// An Ethernet frame.
pub fn ethernet(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    frame(MAC_DESTINATION, ether_type, payload)
}

/// An Ethernet frame with an IPv4 packet, to this MAC address.
pub fn to(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    frame(mac, EtherType::IPV4, packet)
}

/// An Ethernet frame to a multicast group.
pub fn to_group(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    frame(MAC_GROUP, ether_type, payload)
}

fn frame(destination: [u8; 6], ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { source: MAC_SOURCE, destination, ether_type };
    [header.to_bytes().as_slice(), payload].concat()
}

/// A frame with these tags, the outermost first.
pub fn tagged(tags: &[EtherType], ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut inner = ether_type;
    let mut bytes = payload.to_vec();
    for (place, tag) in tags.iter().enumerate().rev() {
        let header = SingleVlanHeader {
            pcp: VlanPcp::ZERO,
            drop_eligible_indicator: false,
            vlan_id: VlanId::try_new(100 + u16::try_from(place).expect("few")).expect("12 bits"),
            ether_type: inner,
        };
        bytes = [header.to_bytes().as_slice(), &bytes].concat();
        inner = *tag;
    }
    ethernet(inner, &bytes)
}

/// An address of either family.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
