//! IPv4 with options and fragments, IPv6 with extension headers.

use super::{Fragment, Headers, ethernet::Link};
use crate::{
    address::Address,
    outcome::Exit,
    packet::Packet,
    wire::{Extension, Ipv4, Ipv6, Ipv6Fragment, ethertype, protocol},
};

/// How many IPv6 extension headers are followed. RFC 8200 knows six kinds, each sensible once
/// but for destination options; the kernel's own limit of options is in the same range.
const MAX_EXTENSIONS: usize = 6;

/// More fragments (IPv4 flags and offset field).
const V4_MORE_FRAGMENTS: u16 = 0x2000;
/// Offset (IPv4 flags and offset field), in units of 8 bytes.
const V4_FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, link: &Link) -> Result<Headers, Exit> {
    match link.ethertype {
        ethertype::IPV4 => parse_v4(packet, link),
        ethertype::IPV6 => parse_v6(packet, link),
        _ => Err(Exit::NotIp),
    }
}

#[inline(always)]
fn parse_v4<P: Packet>(packet: &P, link: &Link) -> Result<Headers, Exit> {
    let ip = packet.view::<Ipv4>(link.network).ok_or(Exit::TruncatedIp)?;
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
        0 => packet.frame_len().saturating_sub(link.network),
        length => length,
    };
    if total_len < header_len {
        return Err(Exit::BadIpLength);
    }
    if !packet.holds(link.network + total_len) {
        return Err(Exit::TruncatedIp);
    }
    let fragment = ip.fragment.get();
    Ok(Headers {
        is_v6: false,
        network: link.network,
        transport: link.network + header_len,
        transport_len: total_len - header_len,
        protocol: ip.protocol,
        fragment: Fragment::new(fragment & V4_FRAGMENT_OFFSET, fragment & V4_MORE_FRAGMENTS != 0),
        to_group: link.to_group,
    })
}

#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, link: &Link) -> Result<Headers, Exit> {
    let ip = packet.view::<Ipv6>(link.network).ok_or(Exit::TruncatedIp)?;
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(Exit::BadIpVersion);
    }
    if is_bad_v6(&ip.source) {
        return Err(Exit::BadSource);
    }
    let mut offset = link.network + size_of::<Ipv6>();
    // A length of 0 belongs to jumbograms and to merged segments of more than 64 KiB.
    let end = match usize::from(ip.payload_length.get()) {
        0 => packet.frame_len(),
        length => offset + length,
    };
    if !packet.holds(end) {
        return Err(Exit::TruncatedIp);
    }
    let mut next = ip.next_header;
    let mut fragment = Fragment::Whole;
    for _ in 0..MAX_EXTENSIONS {
        match extension(packet, next, offset)? {
            Step::Transport => break,
            Step::Extension { next_header, len } => {
                next = next_header;
                offset += len;
            }
            Step::Fragment { next_header, part } => {
                next = next_header;
                offset += size_of::<Ipv6Fragment>();
                fragment = part;
                // What follows a later fragment's header is the middle of something.
                if let Fragment::Later(_) = part {
                    break;
                }
            }
        }
    }
    if is_extension(next) && !matches!(fragment, Fragment::Later(_)) {
        return Err(Exit::UnsupportedExtension);
    }
    // The padding of a short Ethernet frame is no payload, though a length of 0 seems to include it.
    if offset > end {
        return Err(Exit::TruncatedIp);
    }
    Ok(Headers {
        is_v6: true,
        network: link.network,
        transport: offset,
        transport_len: end - offset,
        protocol: next,
        fragment,
        to_group: link.to_group,
    })
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

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// What a next-header value leads to.
enum Step {
    Transport,
    Extension { next_header: u8, len: usize },
    Fragment { next_header: u8, part: Fragment },
}

#[inline(always)]
fn extension<P: Packet>(packet: &P, next: u8, offset: usize) -> Result<Step, Exit> {
    if !is_extension(next) {
        return Ok(Step::Transport);
    }
    if next == protocol::FRAGMENT {
        let header = packet.view::<Ipv6Fragment>(offset).ok_or(Exit::TruncatedIp)?;
        let field = header.fragment.get();
        let part = Fragment::new(field >> 3, field & 1 != 0);
        return Ok(Step::Fragment { next_header: header.next_header, part });
    }
    let header = packet.view::<Extension>(offset).ok_or(Exit::TruncatedIp)?;
    let units = usize::from(header.length);
    let len = match next {
        // RFC 4302: in 4-byte units, less 2.
        protocol::AUTHENTICATION => (units + 2) * 4,
        // RFC 8200: in 8-byte units, the first not counted.
        _ => (units + 1) * 8,
    };
    Ok(Step::Extension { next_header: header.next_header, len })
}
