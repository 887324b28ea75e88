//! IPv4 with options and fragments, IPv6 with extension headers.

use super::{Fragment, Headers, Unread, ethernet::Link};
use crate::{
    address::Address,
    outcome::Exit,
    packet::Packet,
    wire::{Extension, Ipv4, Ipv6, ethertype, protocol},
};

/// How many IPv6 extension headers are followed in place. RFC 8200 knows six kinds, each sensible once
/// but for destination options.
const MAX_EXTENSIONS: usize = 6;

/// More fragments (IPv4 flags and offset field).
const V4_MORE_FRAGMENTS: u16 = 0x2000;
/// Offset (IPv4 flags and offset field), in units of 8 bytes.
const V4_FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, link: Link) -> Result<Headers, Unread> {
    let network = link.network as usize;
    match link.ethertype {
        ethertype::IPV4 => {
            let ip = packet.view::<Ipv4>(network).ok_or(Unread::Deeper)?;
            Ok(v4(packet, link, ip)?)
        }
        ethertype::IPV6 => {
            let ip = packet.view::<Ipv6>(network).ok_or(Unread::Deeper)?;
            let end = v6_end(packet, link, ip)?;
            let mut chain = Chain::new(link, ip);
            for _ in 0..MAX_EXTENSIONS {
                if !chain.goes_on() {
                    break;
                }
                chain = chain.behind(packet.view::<Extension>(chain.offset as usize).ok_or(Unread::Deeper)?);
            }
            if chain.goes_on() {
                return Err(Unread::Deeper);
            }
            Ok(v6(link, chain, end)?)
        }
        _ => Err(Exit::NotIp.into()),
    }
}

/// What an IPv4 header says.
#[inline(always)]
pub(super) fn v4<P: Packet>(packet: &P, link: Link, ip: &Ipv4) -> Result<Headers, Exit> {
    let network = link.network as usize;
    if ip.version_ihl >> 4 != 4 {
        return Err(Exit::BadIpVersion);
    }
    if is_bad_v4(&ip.source) {
        return Err(Exit::BadSource);
    }
    let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
    if header_len < size_of::<Ipv4>() {
        return Err(Exit::BadIpLength);
    }
    // Segmentation offload hands up merged segments with a length of 0 when they exceed 64 KiB.
    let total_len = match usize::from(ip.total_length.get()) {
        0 => packet.frame_len().saturating_sub(network),
        length => length,
    };
    if total_len < header_len {
        return Err(Exit::BadIpLength);
    }
    if !packet.holds(network + total_len) {
        return Err(Exit::TruncatedIp);
    }
    let fragment = ip.fragment.get();
    Ok(Headers {
        is_v6: false,
        network,
        transport: network + header_len,
        transport_len: total_len - header_len,
        protocol: ip.protocol,
        fragment: Fragment::new(fragment & V4_FRAGMENT_OFFSET, fragment & V4_MORE_FRAGMENTS != 0),
        to_group: link.to_group != 0,
    })
}

/// The offset at which an IPv6 packet ends.
#[inline(always)]
pub(super) fn v6_end<P: Packet>(packet: &P, link: Link, ip: &Ipv6) -> Result<usize, Exit> {
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(Exit::BadIpVersion);
    }
    if is_bad_v6(&ip.source) {
        return Err(Exit::BadSource);
    }
    // A length of 0 belongs to jumbograms and to merged segments of more than 64 KiB.
    let end = match usize::from(ip.payload_length.get()) {
        0 => packet.frame_len(),
        length => link.network as usize + size_of::<Ipv6>() + length,
    };
    if packet.holds(end) { Ok(end) } else { Err(Exit::TruncatedIp) }
}

/// What an IPv6 header and those behind it say, after all were followed.
#[inline(always)]
pub(super) fn v6(link: Link, chain: Chain, end: usize) -> Result<Headers, Exit> {
    let transport = chain.offset as usize;
    // The padding of a short Ethernet frame is no payload, though a length of 0 seems to include it. A first fragment may end
    // within its options, so that the transport header is in another one.
    if transport > end && !chain.is_first_fragment() {
        return Err(Exit::TruncatedIp);
    }
    Ok(Headers {
        is_v6: true,
        network: link.network as usize,
        transport,
        transport_len: end.saturating_sub(transport),
        protocol: chain.next,
        fragment: Fragment::from_field(chain.fragment),
        to_group: link.to_group != 0,
    })
}

/// How far the extension headers of an IPv6 packet were followed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Chain {
    /// Offset of what comes next.
    pub offset: u32,
    /// The field of the last fragment header, as [`Extension`] has it; 0 without one.
    pub fragment: u16,
    /// What comes next, see [`protocol`].
    pub next: u8,
    /// Explicit padding.
    pub reserved: u8,
}

impl Chain {
    /// Behind the IPv6 header itself.
    #[inline(always)]
    pub(super) fn new(link: Link, ip: &Ipv6) -> Self {
        let offset = link.network + size_of::<Ipv6>() as u32;
        Self { offset, fragment: 0, next: ip.next_header, reserved: 0 }
    }

    /// Whether an extension header comes next. What follows the header of a later fragment is the middle of something.
    #[inline(always)]
    pub(super) fn goes_on(self) -> bool {
        self.fragment >> 3 == 0
            && matches!(
                self.next,
                protocol::HOP_BY_HOP
                    | protocol::ROUTING
                    | protocol::FRAGMENT
                    | protocol::AUTHENTICATION
                    | protocol::DESTINATION_OPTIONS
            )
    }

    /// Whether all that follows is in the first of several fragments.
    #[inline(always)]
    pub(super) fn is_first_fragment(self) -> bool {
        self.fragment & 1 != 0 && self.fragment >> 3 == 0
    }

    /// Behind the extension header that comes next, of which this is the start.
    #[inline(always)]
    pub(super) fn behind(self, header: &Extension) -> Self {
        let units = u32::from(header.length);
        let (len, fragment) = match self.next {
            protocol::FRAGMENT => (8, header.fragment.get()),
            // RFC 4302: in 4-byte units, less 2.
            protocol::AUTHENTICATION => ((units + 2) * 4, self.fragment),
            // RFC 8200: in 8-byte units, the first not counted.
            _ => ((units + 1) * 8, self.fragment),
        };
        Self { offset: self.offset + len, fragment, next: header.next_header, reserved: 0 }
    }
}

/// Whether no host can have this IPv4 address: groups, and what lies beyond them (RFC 1112, 4).
#[inline(always)]
pub(crate) fn is_bad_v4(source: &[u8; 4]) -> bool {
    source[0] >= 224
}

/// Whether no host can have this IPv6 address: groups, and IPv4 addresses within IPv6, which Linux refuses as sources
/// (`ip6_rcv_core`) and which are the keys of IPv4 sources here.
#[inline(always)]
pub(crate) fn is_bad_v6(source: &[u8; 16]) -> bool {
    source[0] == 0xff || Address::from_v6(source).is_v4()
}
