//! Link types of captures, and how frames without an Ethernet header get one.

use scanguard_common::wire::ethertype;

/// A supported link type (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Ethernet.
    Ethernet,
    /// An IP header.
    Raw,
    /// BSD loopback: the address family in four bytes of either byte order.
    Null,
    /// Linux cooked capture, as written by tcpdump -i any.
    Cooked,
    /// Its second version.
    Cooked2,
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// An EtherType that does not exist (IEEE 802.3 lengths end at 1500).
const NO_PROTOCOL: u16 = 0xffff;
/// The source address where the sender is not known. Nothing reads it.
const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 0];
/// The destination address of packets to a group.
const GROUP: [u8; 6] = [0xff; 6];

impl Link {
    /// From its number in a file.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            // LINKTYPE_RAW, its number on some systems, and the two types for one family.
            101 | 12 | 14 | 228 | 229 => Some(Self::Raw),
            // LINKTYPE_NULL, LINKTYPE_LOOP
            0 | 108 => Some(Self::Null),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// Length of its header.
    pub fn header_len(self) -> usize {
        match self {
            Self::Ethernet => ETHERNET,
            Self::Raw => 0,
            Self::Null => 4,
            Self::Cooked => 16,
            Self::Cooked2 => 20,
        }
    }

    /// The packet with an Ethernet header in place of its own; in `buffer` unless it has one already. Nothing if it is
    /// shorter than its header.
    pub fn ethernet<'f>(self, data: &'f [u8], buffer: &'f mut Vec<u8>) -> Option<&'f [u8]> {
        let (header, payload) = data.split_at_checked(self.header_len())?;
        let (protocol, to_group) = match self {
            Self::Ethernet => return Some(data),
            Self::Raw => (payload.first().map_or(NO_PROTOCOL, |first| by_version(first >> 4)), false),
            Self::Null => (by_family(header), false),
            Self::Cooked => (word(header, 14), is_group(word(header, 0))),
            Self::Cooked2 => (word(header, 0), is_group(u16::from(header[10]))),
        };
        buffer.clear();
        buffer.extend_from_slice(if to_group { &GROUP } else { &ADDRESS });
        buffer.extend_from_slice(&ADDRESS);
        buffer.extend_from_slice(&protocol.to_be_bytes());
        buffer.extend_from_slice(payload);
        Some(buffer)
    }
}

fn word(header: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// `PACKET_BROADCAST` and `PACKET_MULTICAST`, include/uapi/linux/if_packet.h.
fn is_group(packet_type: u16) -> bool {
    matches!(packet_type, 1 | 2)
}

fn by_version(version: u8) -> u16 {
    match version {
        4 => ethertype::IPV4,
        6 => ethertype::IPV6,
        _ => NO_PROTOCOL,
    }
}

/// `AF_INET` is 2 everywhere; `AF_INET6` is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn by_family(header: &[u8]) -> u16 {
    match header {
        [family, 0, 0, 0] | [0, 0, 0, family] => match family {
            2 => ethertype::IPV4,
            10 | 24 | 28 | 30 => ethertype::IPV6,
            _ => NO_PROTOCOL,
        },
        _ => NO_PROTOCOL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(link: Link, data: &[u8]) -> Option<Vec<u8>> {
        link.ethernet(data, &mut Vec::new()).map(<[u8]>::to_vec)
    }

    #[test]
    fn every_link_type_becomes_ethernet_with_the_right_protocol() {
        let cooked = [&[0, 0, 0, 1, 0, 6][..], &[7; 8], &[0x08, 0x00], &[0x45, 1]].concat();
        let cooked2 = [&[0x86, 0xdd, 0, 0][..], &[0, 0, 0, 3, 0, 1, 1, 6], &[7; 8], &[0x60, 1]].concat();
        for (link, data, group, protocol) in [
            (Link::Raw, &[0x45, 1][..], false, [0x08, 0x00]),
            (Link::Raw, &[0x60, 1], false, [0x86, 0xdd]),
            (Link::Raw, &[0x10, 1], false, [0xff, 0xff]),
            (Link::Null, &[2, 0, 0, 0, 0x45, 1], false, [0x08, 0x00]),
            (Link::Null, &[0, 0, 0, 2, 0x45, 1], false, [0x08, 0x00]),
            (Link::Null, &[30, 0, 0, 0, 0x60, 1], false, [0x86, 0xdd]),
            (Link::Null, &[7, 0, 0, 0, 0x60, 1], false, [0xff, 0xff]),
            (Link::Cooked, &cooked, false, [0x08, 0x00]),
            (Link::Cooked2, &cooked2, true, [0x86, 0xdd]),
        ] {
            let frame = ethernet(link, data).unwrap();
            assert_eq!(frame.len(), data.len() - link.header_len() + 14, "{link:?}");
            assert_eq!(frame[0] & 1 != 0, group, "{link:?}");
            assert_eq!(frame[12..14], protocol, "{link:?}");
            assert_eq!(frame.last(), Some(&1), "{link:?}");
        }
    }

    #[test]
    fn what_is_shorter_than_its_header_is_nothing() {
        for (link, length) in [(Link::Ethernet, 13), (Link::Null, 3), (Link::Cooked, 15), (Link::Cooked2, 19)]
        {
            assert_eq!(ethernet(link, &vec![0; length]), None);
        }
        assert_eq!(ethernet(Link::Raw, &[]).unwrap().len(), 14);
    }
}
