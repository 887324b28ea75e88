//! Addresses as keys of maps: 16 bytes, with IPv4 mapped into IPv6, so that there is one code path.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An address of either family in network byte order; IPv4 is v4-mapped (RFC 4291, 2.5.5.2).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout,
)]
#[repr(C)]
pub struct Address {
    /// The 16 bytes in memory, read as two native words. The kernel program compares and masks two words fastest.
    words: [u64; 2],
}

/// `::ffff:0:0/96` as its second native word, without the IPv4 address.
const V4_MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    /// `::`, the value of an empty slot.
    pub const UNSPECIFIED: Self = Self { words: [0; 2] };

    /// The v4-mapped form of an IPv4 address.
    #[inline(always)]
    pub fn from_v4(bytes: &[u8; 4]) -> Self {
        let address = u64::from(u32::from_ne_bytes(*bytes));
        let shift = if cfg!(target_endian = "little") { 32 } else { 0 };
        Self { words: [0, V4_MAPPED | address << shift] }
    }

    /// An IPv6 address.
    #[inline(always)]
    pub fn from_v6(bytes: &[u8; 16]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = *bytes;
        Self {
            words: [
                u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
                u64::from_ne_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            ],
        }
    }

    /// The address of these two native words.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// The two native words.
    #[inline(always)]
    pub fn words(&self) -> [u64; 2] {
        self.words
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let prefix = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        self.words[0] == 0 && self.words[1] & prefix == V4_MAPPED
    }

    /// The bytes of an IPv4 address.
    #[inline(always)]
    pub fn v4(&self) -> Option<[u8; 4]> {
        let shift = if cfg!(target_endian = "little") { 32 } else { 0 };
        self.is_v4().then_some((((self.words[1] >> shift) & 0xffff_ffff) as u32).to_ne_bytes())
    }

    /// Whether it is unspecified: `::`, or one of 0.0.0.0/8 (RFC 1122, 3.2.1.3).
    #[inline(always)]
    pub fn is_unspecified(&self) -> bool {
        match self.v4() {
            Some([first, ..]) => first == 0,
            None => *self == Self::UNSPECIFIED,
        }
    }

    /// Whether it is a loopback address: `::1`, or one of 127.0.0.0/8.
    #[inline(always)]
    pub fn is_loopback(&self) -> bool {
        match self.v4() {
            Some([first, ..]) => first == 127,
            None => self.words == [0, u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1])],
        }
    }

    /// The 16 bytes in network order.
    pub fn bytes(self) -> [u8; 16] {
        let [high, low] = self.words.map(u64::to_ne_bytes);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        bytes
    }

    /// The address as a type of the standard library.
    pub fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.bytes()).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from(v4),
            IpAddr::V6(v6) => Self::from_v6(&v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_v4(&ip.octets())
    }
}

/// Which bits of an IPv6 source address are kept. One host usually owns a whole /64; if single addresses were counted,
/// it could appear as 2^64 sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceMask {
    words: [u64; 2],
}

impl SourceMask {
    /// Keeps the first `bits` (at most 128) of an IPv6 address. IPv4 is always kept whole.
    pub const fn new(bits: u8) -> Self {
        let bits = if bits > 128 { 128 } else { bits };
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        Self { words: [((mask >> 64) as u64).to_be(), (mask as u64).to_be()] }
    }

    /// The mask of these two native words, which the kernel program gets.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// The two native words of the mask.
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    /// The source for which `address` counts.
    #[inline(always)]
    pub fn apply(self, address: Address) -> Address {
        if address.is_v4() {
            return address;
        }
        Address { words: [address.words[0] & self.words[0], address.words[1] & self.words[1]] }
    }
}

/// The length of the network that a source stands for, if so many bits of IPv6 sources are kept: an IPv6 source with
/// bits beyond them is counted by its whole address.
pub const fn source_bits(source: Address, ipv6_prefix: u8) -> u8 {
    if source.is_v4() {
        return 32;
    }
    let SourceMask { words: [high, low] } = SourceMask::new(ipv6_prefix);
    if source.words[0] & !high == 0 && source.words[1] & !low == 0 { ipv6_prefix } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_other_host_can_have_are_recognized() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        for (text, unspecified, loopback) in [
            ("0.0.0.0", true, false),
            ("0.1.2.3", true, false),
            ("::", true, false),
            ("127.0.0.1", false, true),
            ("127.255.0.9", false, true),
            ("::1", false, true),
            ("::2", false, false),
            ("192.0.2.127", false, false),
            ("2001:db8::1", false, false),
        ] {
            let found = (address(text).is_unspecified(), address(text).is_loopback());
            assert_eq!(found, (unspecified, loopback), "{text}");
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_survive_the_way_through_the_map_key() {
        for text in ["192.0.2.1", "2001:db8::1", "::1", "0.0.0.0", "255.255.255.255"] {
            assert_eq!(Address::from(ip(text)).to_ip(), ip(text));
        }
        assert!(Address::from(ip("192.0.2.1")).is_v4());
        assert!(!Address::from(ip("2001:db8::ffff:c000:201")).is_v4());
    }

    #[test]
    fn sources_are_kept_by_prefix_and_ipv4_whole() {
        let host = Address::from(ip("2001:db8:1:2:3:4:5:6"));
        assert_eq!(SourceMask::new(64).apply(host).to_ip(), ip("2001:db8:1:2::"));
        assert_eq!(SourceMask::new(48).apply(host).to_ip(), ip("2001:db8:1::"));
        assert_eq!(SourceMask::new(61).apply(host).to_ip(), ip("2001:db8:1::"));
        assert_eq!(SourceMask::new(128).apply(host).to_ip(), ip("2001:db8:1:2:3:4:5:6"));
        assert_eq!(SourceMask::new(0).apply(host).to_ip(), ip("::"));
        let v4 = Address::from(ip("192.0.2.1"));
        assert_eq!(SourceMask::new(0).apply(v4), v4);
    }

    #[test]
    fn a_source_stands_for_its_prefix_or_for_itself() {
        for (source, prefix, bits) in [
            ("2001:db8:1:2::", 64, 64),
            ("2001:db8:1:2::5", 64, 128),
            ("2001:db8:1:2::", 48, 128),
            ("2001:db8:1::", 48, 48),
            ("2001:db8::5", 128, 128),
            ("192.0.2.1", 64, 32),
        ] {
            assert_eq!(source_bits(Address::from(ip(source)), prefix), bits, "{source}, {prefix}");
        }
    }
}
