//! IPv6 addresses that stand for an IPv4 client: those of translators and of tunnels.
//!
//! A translator's prefix holds the whole IPv4 Internet. If its addresses were counted by their /64, one scanner would
//! stand for everybody behind the translator. So the embedded IPv4 address is the source.
//!
//! | prefix | the IPv4 address | specification |
//! |---|---|---|
//! | 64:ff9b::/96 | the last 32 bits | RFC 6052, 2.1 |
//! | 64:ff9b:1::/48 | the last 32 bits, unless the operator names a part of it with another layout | RFC 8215 |
//! | 2001::/32 (Teredo) | the last 32 bits, inverted | RFC 4380, 4 |
//! | 2002::/16 (6to4) | bits 16 to 47 | RFC 3056, 2 |
//! | the operator's | behind the prefix; bits 64 to 71 are skipped | RFC 6052, 2.2 |

use crate::address::{Address, SourceMask};

/// How long the prefix of a translator may be (RFC 6052, 2.2).
pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The first 32 bits of both prefixes for translators, 64:ff9b::/96 and 64:ff9b:1::/48.
const TRANSLATED: u32 = 0x0064_ff9b;
/// The first 32 bits of Teredo.
const TEREDO: u32 = 0x2001_0000;
/// The first 16 bits of 6to4.
const SIX_TO_FOUR: u32 = 0x2002;

/// Where the IPv4 address lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Behind a prefix of this length, one of [`LENGTHS`].
    Behind(u8),
    /// In the last 32 bits, inverted.
    Teredo,
    /// In the bits 16 to 47.
    SixToFour,
}

impl Layout {
    /// The layout of an address by its prefix alone, without those that the operator names.
    #[inline(always)]
    pub fn well_known(address: Address) -> Option<Self> {
        let [high, low] = address.words().map(u64::from_be);
        match first(address) {
            TRANSLATED if high as u32 == 0 && low >> 32 == 0 || high >> 16 & 0xffff == 1 => {
                Some(Self::Behind(96))
            }
            TEREDO => Some(Self::Teredo),
            bits if bits >> 16 == SIX_TO_FOUR => Some(Self::SixToFour),
            _ => None,
        }
    }

    /// The IPv4 address in an address of this layout, v4-mapped.
    #[inline(always)]
    pub fn embedded(self, address: Address) -> Address {
        let [high, low] = address.words().map(u64::from_be);
        let v4 = match self {
            Self::Behind(96..) => low as u32,
            Self::Behind(prefix) => {
                let prefix = u32::from(prefix);
                // The bits 64 to 71 are skipped. A shift by 64 would be none at all.
                let behind = low << 8 >> 1;
                high.wrapping_shl(prefix.wrapping_sub(32)) as u32
                    | behind.wrapping_shr(95u32.wrapping_sub(prefix)) as u32
            }
            Self::Teredo => !low as u32,
            Self::SixToFour => (high >> 16) as u32,
        };
        Address::from_v4(&v4.to_be_bytes())
    }
}

/// The first 32 bits of an IPv6 address.
#[inline(always)]
fn first(address: Address) -> u32 {
    (u64::from_be(address.words()[0]) >> 32) as u32
}

/// A quick filter in front of the prefixes that the operator names: a bit for the first 32 bits of each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Filter(u64);

impl Filter {
    /// The filter of this number, which the kernel program gets.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number of the filter.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds a prefix.
    pub fn add(&mut self, prefix: Address) {
        self.0 |= 1 << Self::place(first(prefix));
    }

    /// Whether an address may be in one of the prefixes.
    #[inline(always)]
    pub fn may_contain(self, address: Address) -> bool {
        self.0 >> Self::place(first(address)) & 1 != 0
    }

    /// Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4): prefixes of one provider differ in few bits.
    #[inline(always)]
    fn place(first: u32) -> u32 {
        first.wrapping_mul(0x9e37_79b9) >> 26
    }
}

/// Whether an IPv6 address may have an IPv4 address in it. Nearly all others are told apart by these comparisons.
#[inline(always)]
pub fn may_embed(address: Address, named: Filter) -> bool {
    let first = first(address);
    matches!(first, TRANSLATED | TEREDO) || first >> 16 == SIX_TO_FOUR || named.may_contain(address)
}

/// The IPv4 address in an IPv6 address, if there is one. `prefix` gives the length of the operator's prefix around it.
#[inline(always)]
pub fn embedded(
    address: Address,
    named: Filter,
    prefix: impl FnOnce(Address) -> Option<u8>,
) -> Option<Address> {
    let by_operator = if named.may_contain(address) { prefix(address) } else { None };
    let layout = by_operator.map(Layout::Behind).or_else(|| Layout::well_known(address))?;
    Some(layout.embedded(address))
}

/// The source for which an address counts: the IPv4 address that `embedded` finds in it, or else what the mask keeps
/// of it. Only addresses that [`may_embed`] one are looked at closely.
#[inline(always)]
pub fn source(
    address: Address,
    mask: SourceMask,
    named: Filter,
    embedded: impl FnOnce(Address) -> Option<Address>,
) -> Address {
    if address.is_v4() {
        return address;
    }
    if may_embed(address, named)
        && let Some(v4) = embedded(address)
    {
        return v4;
    }
    mask.apply(address)
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    fn found(text: &str, prefix: Option<(&str, u8)>) -> Address {
        let mut named = Filter::default();
        if let Some((prefix, _)) = prefix {
            named.add(address(prefix));
        }
        let embedded = |ip| embedded(ip, named, |_| prefix.map(|(_, length)| length));
        source(address(text), SourceMask::new(64), named, embedded)
    }

    /// The table of RFC 6052, 2.4.
    #[test]
    fn addresses_behind_prefixes_of_all_lengths_are_found() {
        for (prefix, length, text) in [
            ("2001:db8::", 32, "2001:db8:c000:221::"),
            ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
            ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
        ] {
            assert_eq!(found(text, Some((prefix, length))), address("192.0.2.33"), "{text}");
        }
    }

    #[test]
    fn well_known_prefixes_are_known_and_their_neighbours_are_not() {
        for (text, source) in [
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("64:ff9b::c000:201", "192.0.2.1"),
            ("64:ff9b::1:c000:201", "64:ff9b::"),
            ("64:ff9b:0:1::c000:201", "64:ff9b:0:1::"),
            ("64:ff9b:1::192.0.2.1", "192.0.2.1"),
            ("64:ff9b:1:fffe:9:9:192.0.2.1", "192.0.2.1"),
            ("64:ff9b:2::192.0.2.1", "64:ff9b:2::"),
            ("64:ff9a::192.0.2.1", "64:ff9a::"),
            // RFC 4380, 4: the client is 192.0.2.45.
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
            ("2001:1:4136:e378:8000:63bf:3fff:fdd2", "2001:1:4136:e378::"),
            ("2002:c000:204::1", "192.0.2.4"),
            ("2002:c000:204:9:8:7:6:5", "192.0.2.4"),
            ("2003:c000:204::1", "2003:c000:204::"),
            ("2001:db8::192.0.2.1", "2001:db8::"),
            ("192.0.2.9", "192.0.2.9"),
        ] {
            assert_eq!(found(text, None), address(source), "{text}");
        }
    }

    #[test]
    fn the_operator_may_give_a_part_of_a_local_prefix_another_layout() {
        let named = Some(("64:ff9b:1:aa00::", 56));
        assert_eq!(found("64:ff9b:1:aac0:0:201::", named), address("192.0.2.1"));
    }

    #[test]
    fn the_filter_tells_most_prefixes_apart() {
        let mut named = Filter::default();
        named.add(address("2001:db8:64::"));
        assert!(named.may_contain(address("2001:db8:9::1")));
        let others =
            (0..1_000u64).map(|n| Address::from_words([((0x2a00_0000 + n * 0x0107) << 32).to_be(), 0]));
        assert!(others.filter(|other| named.may_contain(*other)).count() < 50);
    }
}
