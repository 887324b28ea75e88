//! Packets with any addresses and numbers, and their way onto the attacker's link.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use etherparse::{
    EtherType, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader,
};
use scanguard_common::wire::{protocol, tcp_flags};

use super::bridge::Bridge;

/// Between two forged packets: a quick scan, and no flood.
const PACE: Duration = Duration::from_millis(1);
/// A number that no connection of a test has.
pub const JUNK: u32 = 0x1111_1111;

/// Fields of a TCP segment, without its addresses and ports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'d> {
    /// Its flags, see [`tcp_flags`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Its payload.
    pub data: &'d [u8],
}

impl<'d> Segment<'d> {
    /// With junk for numbers.
    pub fn junk(flags: u8) -> Self {
        Self { flags, sequence: JUNK, acknowledgment: JUNK, data: b"" }
    }

    /// Junk with a payload.
    pub fn carrying(data: &'d [u8]) -> Self {
        Self { data, ..Self::junk(tcp_flags::PSH | tcp_flags::ACK) }
    }
}

/// Both ends of a packet.
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn ends(from: IpAddr, to: IpAddr) -> Result<Ends> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(Ends::V4(from.octets(), to.octets())),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(Ends::V6(from.octets(), to.octets())),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            bail!("{from} and {to}: two families")
        }
    }
}

/// A segment with its checksum.
///
/// # Errors
/// The ends are of two families.
pub fn tcp(from: SocketAddr, to: SocketAddr, segment: &Segment<'_>) -> Result<Vec<u8>> {
    let Segment { flags, sequence, acknowledgment, data } = *segment;
    let mut header = TcpHeader::new(from.port(), to.port(), sequence, 64_240);
    header.acknowledgment_number = acknowledgment;
    let has = |flag| flags & flag != 0;
    header.fin = has(tcp_flags::FIN);
    header.syn = has(tcp_flags::SYN);
    header.rst = has(tcp_flags::RST);
    header.psh = has(tcp_flags::PSH);
    header.ack = has(tcp_flags::ACK);
    header.urg = has(tcp_flags::URG);
    header.ece = has(0x40);
    header.cwr = has(0x80);
    header.checksum = match ends(from.ip(), to.ip())? {
        Ends::V4(from, to) => header.calc_checksum_ipv4_raw(from, to, data)?,
        Ends::V6(from, to) => header.calc_checksum_ipv6_raw(from, to, data)?,
    };
    Ok([&header.to_bytes(), data].concat())
}

/// A datagram with its checksum.
///
/// # Errors
/// The ends are of two families.
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Result<Vec<u8>> {
    let mut header = UdpHeader {
        source_port: from.port(),
        destination_port: to.port(),
        length: u16::try_from(8 + data.len())?,
        checksum: 0,
    };
    header.checksum = match ends(from.ip(), to.ip())? {
        Ends::V4(from, to) => header.calc_checksum_ipv4_raw(from, to, data)?,
        Ends::V6(from, to) => header.calc_checksum_ipv6_raw(from, to, data)?,
    };
    Ok([&header.to_bytes(), data].concat())
}

/// An IP packet, with what kind of Ethernet frame it goes.
///
/// # Errors
/// The ends are of two families.
pub fn ip(from: IpAddr, to: IpAddr, number: u8, payload: &[u8]) -> Result<(EtherType, Vec<u8>)> {
    match ends(from, to)? {
        Ends::V4(from, to) => ipv4(from, to, number, payload, |_| Ok(())),
        Ends::V6(source, destination) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: u16::try_from(payload.len())?,
                next_header: IpNumber(number),
                hop_limit: 64,
                source,
                destination,
            };
            Ok((EtherType::IPV6, [header.to_bytes().as_slice(), payload].concat()))
        }
    }
}

/// The same over IPv4, with a change of the header before its checksum is made.
fn ipv4(
    from: [u8; 4],
    to: [u8; 4],
    number: u8,
    payload: &[u8],
    change: impl FnOnce(&mut Ipv4Header) -> Result<()>,
) -> Result<(EtherType, Vec<u8>)> {
    let mut header = Ipv4Header::new(u16::try_from(payload.len())?, 64, IpNumber(number), from, to)?;
    change(&mut header)?;
    header.header_checksum = header.calc_header_checksum();
    Ok((EtherType::IPV4, [header.to_bytes().as_slice(), payload].concat()))
}

/// A fragment of a packet; the offset is in units of eight bytes.
///
/// # Errors
/// The ends are of two families.
pub fn fragment(
    from: IpAddr,
    to: IpAddr,
    number: u8,
    (offset, more): (u16, bool),
    payload: &[u8],
) -> Result<(EtherType, Vec<u8>)> {
    match ends(from, to)? {
        Ends::V4(from, to) => ipv4(from, to, number, payload, |header| {
            header.identification = 7;
            header.dont_fragment = false;
            header.fragment_offset = IpFragOffset::try_new(offset)?;
            header.more_fragments = more;
            Ok(())
        }),
        Ends::V6(..) => {
            ip(from, to, FRAGMENT6, &crate::fixtures::frames::fragment6(number, offset, more, payload))
        }
    }
}

/// IPv6 fragment header (RFC 8200).
const FRAGMENT6: u8 = 44;

/// Sends what was forged, and counts it.
pub struct Forger<'b> {
    bridge: &'b Bridge,
    pace: Cell<Duration>,
    sent: Cell<u32>,
}

impl<'b> Forger<'b> {
    /// A forger at the attacker's link.
    pub fn new(bridge: &'b Bridge) -> Self {
        Self { bridge, pace: Cell::new(PACE), sent: Cell::new(0) }
    }

    /// So long between two packets from now on.
    pub fn pace(&self, pace: Duration) {
        self.pace.set(pace);
    }

    /// Frames that were sent so far.
    pub fn sent(&self) -> u32 {
        self.sent.get()
    }

    /// A frame whose content begins with this type, from the attacker's MAC address to the server's.
    ///
    /// # Errors
    /// The link does not take it.
    pub fn frame(&self, ether_type: u16, content: &[u8]) -> Result<()> {
        let [attacker, server] = self.bridge.macs;
        let frame = [&server, &attacker, ether_type.to_be_bytes().as_slice(), content].concat();
        self.bridge.wire.send(&frame)?;
        self.sent.set(self.sent.get() + 1);
        thread::sleep(self.pace.get());
        Ok(())
    }

    /// A packet.
    ///
    /// # Errors
    /// As above, or it could not be made.
    pub fn ip(&self, from: IpAddr, to: IpAddr, number: u8, payload: &[u8]) -> Result<()> {
        let (ether_type, packet) = ip(from, to, number, payload)?;
        self.frame(ether_type.0, &packet)
    }

    /// A fragment.
    ///
    /// # Errors
    /// As above.
    pub fn fragment(
        &self,
        from: IpAddr,
        to: IpAddr,
        number: u8,
        place: (u16, bool),
        payload: &[u8],
    ) -> Result<()> {
        let (ether_type, packet) = fragment(from, to, number, place, payload)?;
        self.frame(ether_type.0, &packet)
    }

    /// A segment.
    ///
    /// # Errors
    /// As above.
    pub fn tcp(&self, from: SocketAddr, to: SocketAddr, segment: &Segment<'_>) -> Result<()> {
        self.ip(from.ip(), to.ip(), protocol::TCP, &tcp(from, to, segment)?)
    }

    /// A datagram.
    ///
    /// # Errors
    /// As above.
    pub fn udp(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Result<()> {
        self.ip(from.ip(), to.ip(), protocol::UDP, &udp(from, to, data)?)
    }
}
