//! IPv4 with options and fragments, IPv6 with extension headers.

use super::{Fragment, Headers, Unread, ethernet::Link};
use crate::{
    address::Address,
    outcome::Exit,
    packet::Packet,
    wire::{Extension, Ipv4, Ipv6, ethertype, protocol},
};

/// How many IPv6 extension headers are followed in place. RFC 8200 has six kinds, and each makes sense only once,
/// except for destination options.
const MAX_EXTENSIONS: usize = 6;

/// More fragments (in the IPv4 field of flags and offset).
const V4_MORE_FRAGMENTS: u16 = 0x2000;
/// Offset (in the IPv4 field of flags and offset), in units of 8 bytes.
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

/// The contents of an IPv4 header.
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
    // Segmentation offload passes on merged segments with a length of 0 when they exceed 64 KiB.
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
    // Jumbograms and merged segments of more than 64 KiB have a length of 0.
    let end = match usize::from(ip.payload_length.get()) {
        0 => packet.frame_len(),
        length => link.network as usize + size_of::<Ipv6>() + length,
    };
    if packet.holds(end) { Ok(end) } else { Err(Exit::TruncatedIp) }
}

/// The contents of an IPv6 header and of the extension headers, after all of them were followed.
#[inline(always)]
pub(super) fn v6(link: Link, chain: Chain, end: usize) -> Result<Headers, Exit> {
    let transport = chain.offset as usize;
    // The padding of a short Ethernet frame is no payload, though a length of 0 seems to include it. A first fragment
    // may end within its options; then the transport header is in another fragment.
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
    /// Offset of the next header.
    pub offset: u32,
    /// The field of the last fragment header, as in [`Extension`]; 0 if there was none.
    pub fragment: u16,
    /// The protocol of the next header, see [`protocol`].
    pub next: u8,
    /// Explicit padding.
    pub reserved: u8,
}

impl Chain {
    /// The position right behind the IPv6 header.
    #[inline(always)]
    pub(super) fn new(link: Link, ip: &Ipv6) -> Self {
        let offset = link.network + size_of::<Ipv6>() as u32;
        Self { offset, fragment: 0, next: ip.next_header, reserved: 0 }
    }

    /// Whether the next header is an extension header. Behind the header of a later fragment lies the middle of the
    /// data.
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

    /// The position behind the next extension header, which starts with these bytes.
    #[inline(always)]
    pub(super) fn behind(self, header: &Extension) -> Self {
        let units = u32::from(header.length);
        let (len, fragment) = match self.next {
            protocol::FRAGMENT => (8, header.fragment.get()),
            // RFC 4302: in units of 4 bytes, less 2.
            protocol::AUTHENTICATION => ((units + 2) * 4, self.fragment),
            // RFC 8200: in units of 8 bytes, without the first.
            _ => ((units + 1) * 8, self.fragment),
        };
        Self { offset: self.offset + len, fragment, next: header.next_header, reserved: 0 }
    }
}

/// Whether no host can have this IPv4 address: it is a group or lies beyond the groups (RFC 1112, 4).
#[inline(always)]
pub(crate) fn is_bad_v4(source: &[u8; 4]) -> bool {
    source[0] >= 224
}

/// Whether no host can have this IPv6 address: it is a group, or an IPv4 address within IPv6. Linux refuses the latter
/// as sources (`ip6_rcv_core`), and here they are the keys of IPv4 sources.
#[inline(always)]
pub(crate) fn is_bad_v6(source: &[u8; 16]) -> bool {
    source[0] == 0xff || Address::from_v6(source).is_v4()
}
