//! Bytes to [`Headers`]: where the transport header of a frame lies, and which protocol it has.

pub mod deep;
mod ethernet;
mod ip;

use crate::{
    address::Address,
    outcome::Exit,
    packet::Packet,
    wire::{Ipv4, Ipv6},
};

pub(crate) use self::ip::{is_bad_v4, is_bad_v6};
pub use self::{ethernet::Link, ip::Chain};

/// The contents of a frame's link and network headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headers {
    /// Whether the network header is IPv6.
    pub is_v6: bool,
    /// Offset of the network header.
    pub network: usize,
    /// Offset of the first byte behind the network header and all extension headers.
    pub transport: usize,
    /// Bytes from `transport` to the end, as given by the IP header.
    pub transport_len: usize,
    /// Protocol number of the header at `transport`.
    pub protocol: u8,
    /// Which part of a datagram the packet carries.
    pub fragment: Fragment,
    /// Whether the frame was sent to a link-layer group (multicast or broadcast).
    pub to_group: bool,
}

impl Headers {
    /// The source and destination addresses of the packet.
    #[inline(always)]
    pub fn addresses<P: Packet>(&self, packet: &P) -> Option<(Address, Address)> {
        addresses_at(packet, self.is_v6, self.network)
    }
}

#[inline(always)]
fn addresses_at<P: Packet>(packet: &P, is_v6: bool, network: usize) -> Option<(Address, Address)> {
    if is_v6 {
        packet.view::<Ipv6>(network).map(Ipv6::addresses)
    } else {
        packet.view::<Ipv4>(network).map(Ipv4::addresses)
    }
}

/// Which part of an IP datagram a packet carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first part; more follow.
    First,
    /// A later part, at this offset in units of 8 bytes.
    Later(u16),
}

impl Fragment {
    /// From the offset in units of 8 bytes and the more-fragments flag.
    #[inline(always)]
    fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            (offset, _) => Self::Later(offset),
        }
    }

    /// From the field of an IPv6 fragment header; 0 without one.
    #[inline(always)]
    fn from_field(field: u16) -> Self {
        Self::new(field >> 3, field & 1 != 0)
    }

    /// As the field of an IPv6 fragment header has it.
    #[inline(always)]
    fn field(self) -> u16 {
        match self {
            Self::Whole => 0,
            Self::First => 1,
            Self::Later(offset) => offset << 3,
        }
    }
}

/// Why the transport header of a frame was not found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unread {
    /// There is none: the frame is not IP, or it is malformed. It is counted under this exit.
    Exit(Exit),
    /// If it exists, it lies deeper than [`parse`] looks: see [`deep`].
    Deeper,
}

impl From<Exit> for Unread {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Self::Exit(exit)
    }
}

/// Finds the transport header at its usual place: behind two tags and a few extension headers at most. Nearly all
/// packets have it there.
///
/// # Errors
/// See [`Unread`].
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Headers, Unread> {
    let link = ethernet::parse(packet)?;
    ip::parse(packet, link)
}

/// As [`parse`], for a packet of a link without a header.
///
/// # Errors
/// See [`Unread`].
#[inline(always)]
pub fn parse_bare<P: Packet>(packet: &P) -> Result<Headers, Unread> {
    // The verifier does not understand a comparison for a single byte.
    let ip = packet.view::<Ipv4>(0).ok_or(Exit::TruncatedIp)?;
    ip::parse(packet, Link::bare(ip.version_ihl))
}

/// The source and destination addresses of an IP packet, even if nothing else of it can be read. Gives nothing if it
/// is no IP packet.
#[inline(always)]
pub fn addresses<P: Packet>(packet: &P) -> Option<(Address, Address)> {
    deep::addresses(packet, deep::link(packet).ok()?)
}
