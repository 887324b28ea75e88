//! Prefixes that are directly at this host's interfaces.
//!
//! Elsewhere a /64 belongs to one customer, and is one source ([`SourceMask`]). A prefix at an interface is shared: by
//! this host, its gateway, and neighbours who have nothing to do with each other. There, each address is a source.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::{Address, SourceMask};

/// How many prefixes there is room for.
pub const MAX_ON_LINK: usize = 8;

/// A prefix as words: it contains the addresses that have these bits where the mask has bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Prefix {
    mask: [u64; 2],
    bits: [u64; 2],
}

/// The IPv6 prefixes in which each address is a source.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct OnLink {
    prefixes: [Prefix; MAX_ON_LINK],
    count: u64,
}

impl OnLink {
    /// The first [`MAX_ON_LINK`] of these prefixes, each with its length.
    pub fn new(prefixes: impl IntoIterator<Item = (Address, u8)>) -> Self {
        let mut on_link = Self::default();
        for (slot, (address, length)) in on_link.prefixes.iter_mut().zip(prefixes) {
            let mask = SourceMask::new(length);
            *slot = Prefix { mask: mask.words(), bits: mask.apply(address).words() };
            on_link.count += 1;
        }
        on_link
    }

    /// Whether an IPv6 address is in one of them.
    #[inline(always)]
    pub fn contains(&self, address: Address) -> bool {
        let [high, low] = address.words();
        let mut rest = self.count;
        for Prefix { mask, bits } in &self.prefixes {
            if rest == 0 {
                return false;
            }
            rest -= 1;
            if high & mask[0] == bits[0] && low & mask[1] == bits[1] {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn sources_at_an_interface_are_told_apart_and_no_others() {
        let on_link = OnLink::new([(address("2001:db8:1:2::"), 64), (address("fe80::1"), 10)]);
        for (from, is_alone) in [("2001:db8:1:2::7", true), ("fe80::5054", true), ("2001:db8:1:3::7", false)]
        {
            assert_eq!(on_link.contains(address(from)), is_alone, "{from}");
        }
        assert!(!OnLink::default().contains(address("::")));
    }

    #[test]
    fn there_is_room_for_some_prefixes_and_the_rest_is_left_out() {
        let host = |n| Address::from(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 1)));
        let all = (0..20).map(|n| (host(n), 64));
        let on_link = OnLink::new(all);
        let contained = (0..20).filter(|n| on_link.contains(host(*n)));
        assert_eq!(contained.count(), MAX_ON_LINK);
    }
}
