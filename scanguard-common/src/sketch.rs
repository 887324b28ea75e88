//! Counts distinct things in fixed memory: the bit that a thing sets in a linear-counting bitmap.
//!
//! Linear counting (Whang, Vander-Zanden, Taylor 1990): each distinct thing sets one pseudo-random bit of m. With z
//! bits still zero, about `m * ln(m / z)` distinct things were seen. The agent's `observe::distinct` makes the
//! estimate and states its error.

use crate::{address::Address, outcome::Service};

/// Words of the bitmap of distinct services (512 bits: 5 % error at 1,000 ports).
pub const SERVICE_WORDS: usize = 8;
/// Words of the bitmap of distinct hosts (256 bits: 5 % error at 250 addresses).
pub const HOST_WORDS: usize = 4;

/// Words of the bitmaps of services and hosts that were asked for, and of those that answered (256 bits, as above).
pub const ASKED_WORDS: usize = 4;

/// Words of the bitmap of services that a source met (512 bits).
pub const MET_WORDS: usize = 8;

/// How many ports each have a bit of their own in the bitmap of services to which a source said nothing. That is one
/// more than make a finding: up to here the number is exact.
pub const EXACT_PORTS: usize = 12;

/// The finalizer of MurmurHash3: every input bit changes every output bit. The inputs are salted with a secret of this
/// run, so that nobody can choose ports or addresses that share one bit.
#[inline(always)]
const fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

/// A bit of a bitmap of 64-bit words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bit {
    /// Index of the word.
    pub word: usize,
    /// The bit in that word.
    pub mask: u64,
}

impl Bit {
    /// Takes the upper `log2(words * 64)` bits of a hash. The verifier sees the bound in the shift.
    #[inline(always)]
    const fn from_hash<const WORDS: usize>(hash: u64) -> Self {
        let bits = (WORDS * 64).trailing_zeros();
        let index = hash >> (64 - bits);
        Self { word: (index >> 6) as usize, mask: 1 << (index & 63) }
    }
}

#[inline(always)]
const fn service_hash(service: Service, salt: u64) -> u64 {
    let value = (service.protocol as u64) << 16 | service.port as u64;
    mix(value ^ salt)
}

#[inline(always)]
fn host_hash(host: Address, salt: u64) -> u64 {
    let [high, low] = host.words();
    mix(low ^ mix(high ^ salt))
}

/// The bit of a service.
#[inline(always)]
pub const fn service_bit(service: Service, salt: u64) -> Bit {
    Bit::from_hash::<SERVICE_WORDS>(service_hash(service, salt))
}

/// The bit of a destination address.
#[inline(always)]
pub fn host_bit(host: Address, salt: u64) -> Bit {
    Bit::from_hash::<HOST_WORDS>(host_hash(host, salt))
}

/// The bit of a service among those that were asked for, or that answered.
#[inline(always)]
pub const fn asked_service_bit(service: Service, salt: u64) -> Bit {
    Bit::from_hash::<ASKED_WORDS>(service_hash(service, salt))
}

/// The bit of an address among those.
#[inline(always)]
pub fn asked_host_bit(host: Address, salt: u64) -> Bit {
    Bit::from_hash::<ASKED_WORDS>(host_hash(host, salt))
}

/// A number below `most`, which is chosen by a hash.
#[inline(always)]
const fn below(most: usize, hash: u64) -> u32 {
    (((hash >> u32::BITS) * most as u64) >> u32::BITS) as u32
}

/// The bit of a service that shares its bit with others, in the bitmap that has the first [`EXACT_PORTS`] bits for one
/// port each.
#[inline(always)]
pub const fn shared_port_bit(service: Service, salt: u64) -> u32 {
    1 << (EXACT_PORTS as u32 + below(u32::BITS as usize - EXACT_PORTS, service_hash(service, salt)))
}

/// The bit of an address in a bitmap of 32 bits (15 % error at 32 addresses).
#[inline(always)]
pub fn few_hosts_bit(host: Address, salt: u64) -> u32 {
    1 << below(u32::BITS as usize, host_hash(host, salt))
}

/// The bit of the network of an address, in a bitmap of one word: the first 16 bits of IPv4, the first 32 of IPv6. Others
/// than its owner can hardly have addresses in many.
#[inline(always)]
pub fn caller_bit(host: Address, salt: u64) -> u64 {
    let [high, low] = host.words();
    let network = if host.is_v4() {
        Address::from_words([high, low & u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])])
    } else {
        Address::from_words([high & u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), 0])
    };
    host_bit(network, salt).mask
}

/// The bit of a service at an address. It needs no hash beyond those of the two.
#[inline(always)]
pub fn target_bit(host: Address, service: Service, salt: u64) -> Bit {
    Bit::from_hash::<MET_WORDS>(service_hash(service, salt).wrapping_add(host_hash(host, salt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay_within_their_bitmap_and_spread_over_all_of_it() {
        let mut words = [0u64; SERVICE_WORDS];
        for port in 0..u16::MAX {
            let bit = service_bit(Service { protocol: 6, port }, 42);
            words[bit.word] |= bit.mask;
        }
        assert_eq!(words, [u64::MAX; SERVICE_WORDS]);
    }

    #[test]
    fn callers_of_one_network_are_one() {
        let bit = |text: &str| caller_bit(text.parse::<core::net::IpAddr>().unwrap().into(), 7);
        assert_eq!(bit("20.8.1.1"), bit("20.8.200.9"));
        assert_eq!(bit("2001:db8:1::1"), bit("2001:db8:2::9"));
        assert_ne!(bit("20.8.1.1"), bit("20.9.1.1"));
        assert_ne!(bit("2001:db8::1"), bit("2001:db9::1"));
    }

    #[test]
    fn another_salt_moves_the_bits() {
        let service = Service { protocol: 6, port: 443 };
        let bits = (0..64).map(|salt| service_bit(service, salt));
        let first = service_bit(service, 0);
        assert!(bits.filter(|bit| *bit == first).count() < 8);
    }
}
