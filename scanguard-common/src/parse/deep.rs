//! Headers that lie deeper than [`super::parse`] looks: behind many VLAN tags, behind many or long IPv6 extension
//! headers, or beyond a packet's first buffer. The kernel's stack follows them, so a scanner that hides there would be
//! answered.
//!
//! The code copies the needed headers together and classifies them like any other packet's. The kernel program puts
//! each of the two loops into a function of its own, which the verifier checks once. This is why [`find`] has its
//! arguments.

use super::{
    Fragment, Headers, addresses_at,
    ethernet::Link,
    ip::{self, Chain},
};
use crate::{
    address::Address,
    outcome::Exit,
    packet::Packet,
    wire::{Ethernet, Extension, Ipv4, Ipv6, Pppoe, VlanTag, Wire, ethertype},
};

/// How many tags are followed: as many as fit into a frame with an MTU of 1,500 bytes.
pub const MAX_TAGS: usize = 375;
/// How many extension headers are followed: as many as fit into a packet of 1,500 bytes.
pub const MAX_EXTENSIONS: usize = 184;

/// Where the copy of the transport header begins: behind the longer one of the two network headers.
const TRANSPORT: usize = size_of::<Ipv6>();
/// How many bytes of the transport header are copied at most: the code looks at no more of any protocol.
const MAX_TRANSPORT: usize = 20;

/// The copies: the network header, and behind it the beginning of the transport header.
type Bytes = [u8; TRANSPORT + MAX_TRANSPORT];

/// The headers of a packet, copied together. They are plain numbers, since the kernel program keeps them in a map: its
/// stack has no room.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Deep {
    bytes: Bytes,
    /// Offset of the transport header in the frame.
    transport: u32,
    /// Bytes from there to the end, as given by the IP header.
    transport_len: u32,
    /// Which part of a datagram this is, see [`Fragment::field`].
    fragment: u16,
    protocol: u8,
    is_v6: u8,
    to_group: u8,
    /// Whether the extension headers cannot be followed to their end. Then nothing is known about the transport
    /// header.
    goes_on: u8,
    reserved: u16,
}

impl Deep {
    /// Nothing was found yet.
    pub const EMPTY: Self = Self {
        bytes: [0; TRANSPORT + MAX_TRANSPORT],
        transport: 0,
        transport_len: 0,
        fragment: 0,
        protocol: 0,
        is_v6: 0,
        to_group: 0,
        goes_on: 0,
        reserved: 0,
    };

    /// The positions of the headers in the copy and their contents. Gives nothing if the extension headers cannot be
    /// followed to their end.
    #[inline(always)]
    pub fn headers(&self) -> Option<Headers> {
        (self.goes_on == 0).then_some(Headers {
            is_v6: self.is_v6 != 0,
            network: 0,
            transport: TRANSPORT,
            transport_len: self.transport_len as usize,
            protocol: self.protocol,
            fragment: Fragment::from_field(self.fragment),
            to_group: self.to_group != 0,
        })
    }

    /// The source and destination addresses of the packet.
    #[inline(always)]
    pub fn addresses(&self) -> Option<(Address, Address)> {
        addresses_at(self, self.is_v6 != 0, 0)
    }

    /// The offset in the frame of a byte at this offset in the copy, from the transport header on.
    #[inline(always)]
    pub fn in_frame(&self, offset: usize) -> usize {
        offset - TRANSPORT + self.transport as usize
    }
}

impl Packet for Deep {
    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        T::ref_from_prefix(self.bytes.get(offset..)?).ok().map(|(header, _rest)| header)
    }

    #[inline(always)]
    fn load(&self, offset: usize, into: &mut [u8]) -> bool {
        self.bytes.as_slice().load(offset, into)
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Follows the tags of a frame.
///
/// # Errors
/// The exit of a frame that ends within them, or that has more than are followed.
#[inline(always)]
pub fn link<P: Packet>(packet: &P) -> Result<Link, Exit> {
    let mut link = Link::new(&packet.copy::<Ethernet>(0).ok_or(Exit::TruncatedEthernet)?);
    for _ in 0..MAX_TAGS {
        if !link.is_tag() {
            break;
        }
        let tag = packet.copy::<VlanTag>(link.network as usize).ok_or(Exit::TruncatedEthernet)?;
        link = link.behind(&tag);
    }
    if link.is_pppoe() {
        let session = packet.copy::<Pppoe>(link.network as usize).ok_or(Exit::TruncatedEthernet)?;
        link = link.within(&session);
    }
    if link.is_tag() { Err(Exit::UnsupportedVlan) } else { Ok(link) }
}

/// Follows extension headers. Where the chain has more than the code follows, or more than a first fragment has, it
/// stays unfinished.
///
/// # Errors
/// The exit of a packet that ends within them.
#[inline(always)]
pub fn follow<P: Packet>(packet: &P, mut chain: Chain) -> Result<Chain, Exit> {
    for _ in 0..MAX_EXTENSIONS {
        if !chain.goes_on() {
            break;
        }
        match packet.copy::<Extension>(chain.offset as usize) {
            Some(header) => chain = chain.behind(&header),
            None if chain.is_first_fragment() => break,
            None => return Err(Exit::TruncatedIp),
        }
    }
    Ok(chain)
}

/// Finds the headers of a packet, with [`link`] and [`follow`] as `link` and `follow`, and copies them.
///
/// # Errors
/// The exit of a frame that is not IP, is malformed, or has more tags than are followed.
#[inline(always)]
pub fn find<P: Packet>(
    packet: &P,
    deep: &mut Deep,
    link: impl FnOnce(&P) -> Result<Link, Exit>,
    follow: impl FnOnce(&P, Chain) -> Result<Chain, Exit>,
) -> Result<(), Exit> {
    let link = link(packet)?;
    let network = link.network as usize;
    let found = match link.ethertype {
        ethertype::IPV4 => {
            deep.is_v6 = 0;
            ip::v4(packet, link, load_network::<P, Ipv4>(packet, network, &mut deep.bytes)?)?
        }
        ethertype::IPV6 => {
            deep.is_v6 = 1;
            let ip = load_network::<P, Ipv6>(packet, network, &mut deep.bytes)?;
            let end = ip::v6_end(packet, link, ip)?;
            let chain = follow(packet, Chain::new(link, ip))?;
            if chain.goes_on() {
                deep.goes_on = 1;
                return Ok(());
            }
            ip::v6(link, chain, end)?
        }
        _ => return Err(Exit::NotIp),
    };
    deep.goes_on = 0;
    deep.transport = found.transport as u32;
    deep.transport_len = found.transport_len as u32;
    deep.fragment = found.fragment.field();
    deep.protocol = found.protocol;
    deep.to_group = found.to_group.into();
    // A later fragment begins in the middle of the data.
    if matches!(found.fragment, Fragment::Later(_)) || load_transport(packet, &found, &mut deep.bytes) {
        Ok(())
    } else {
        Err(Exit::TruncatedIp)
    }
}

/// Copies the network header at this offset of the frame.
#[inline(always)]
fn load_network<'d, P: Packet, T: Wire>(
    packet: &P,
    offset: usize,
    bytes: &'d mut Bytes,
) -> Result<&'d T, Exit> {
    if !packet.load(offset, &mut bytes[..size_of::<T>()]) {
        return Err(Exit::TruncatedIp);
    }
    T::ref_from_prefix(bytes).map(|(header, _rest)| header).map_err(|_| Exit::TruncatedIp)
}

/// Copies as much of the transport header as there is. It tries the sizes that the code looks at: TCP's header, SCTP's
/// with the start of a chunk, UDP's, and the ports. The code reads no more than that of any ICMP message.
#[inline(always)]
fn load_transport<P: Packet>(packet: &P, headers: &Headers, bytes: &mut Bytes) -> bool {
    let offset = headers.transport;
    match headers.transport_len {
        MAX_TRANSPORT.. => packet.load(offset, &mut bytes[TRANSPORT..]),
        16.. => packet.load(offset, &mut bytes[TRANSPORT..TRANSPORT + 16]),
        8.. => packet.load(offset, &mut bytes[TRANSPORT..TRANSPORT + 8]),
        4.. => packet.load(offset, &mut bytes[TRANSPORT..TRANSPORT + 4]),
        _ => true,
    }
}

/// The source and destination addresses of an IP packet, even if nothing else of it can be read.
#[inline(always)]
pub fn addresses<P: Packet>(packet: &P, link: Link) -> Option<(Address, Address)> {
    let network = link.network as usize;
    match link.ethertype {
        ethertype::IPV4 => packet.copy::<Ipv4>(network).map(|ip| ip.addresses()),
        ethertype::IPV6 => packet.copy::<Ipv6>(network).map(|ip| ip.addresses()),
        _ => None,
    }
}
