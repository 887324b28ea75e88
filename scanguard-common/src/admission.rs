//! The admission filter: which sources may enter the table when more send probes than it has room for.
//!
//! An entry costs eight times a look-up and pushes another source out. A flood of forged sources would make an entry
//! for each of its packets. So only a limited number of new sources may enter at once in an epoch. After that, a
//! source enters with its second probe. The first probe leaves a fingerprint at a place that depends on the address.
//! It stays there until another source uses the same place: with `m` places and `r` new sources a second, a source
//! that probes again after `t` seconds is still known with a probability of `exp(-r t / m)`. In quiet times a source
//! stays known for ever, and nothing ever clears the places.
//!
//! Two sources with the same fingerprint and the same place are mistaken for one, and both enter. This happens to one
//! pair in 2^32. Places and fingerprints depend on a secret, so that an attacker cannot choose sources that push out
//! those of another.

use crate::{address::Address, flow::stir};

/// Number of places, 4 bytes each; a power of two.
pub const PLACES: usize = 1 << 20;

/// The mark of a source: its place and its fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// A number below [`PLACES`].
    pub place: u32,
    /// Never 0, because 0 is the value of an empty place.
    pub fingerprint: u32,
}

impl Mark {
    /// The mark of a source.
    #[inline(always)]
    pub fn new(source: Address, salt: u64) -> Self {
        let [high, low] = source.words();
        // One more turn than a tag has: the fingerprint uses the lower half of the hash, whose bits depend on few
        // others.
        let hash = stir(stir(stir(salt, low), high), low);
        Self { place: (hash >> 44) as u32 & (PLACES as u32 - 1), fingerprint: hash as u32 | 1 }
    }

    /// Whether the source has probed before. `held` is the value at its place. If the source is not known, the caller
    /// writes the fingerprint there.
    #[inline(always)]
    pub fn is_known(self, held: u32) -> bool {
        held == self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    extern crate std;
    use std::{vec, vec::Vec};

    /// The places, in ordinary memory.
    struct Table(Vec<u32>);

    impl Table {
        fn new() -> Self {
            Self(vec![0; PLACES])
        }

        fn enters(&mut self, source: u32) -> bool {
            let mark = Mark::new(Ipv4Addr::from(source).into(), 0x5ca9);
            let held = &mut self.0[mark.place as usize];
            let is_known = mark.is_known(*held);
            *held = mark.fingerprint;
            is_known
        }
    }

    /// A sequence that visits each number once.
    fn forged(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|number| number.wrapping_mul(0x9e37_79b1))
    }

    #[test]
    fn a_source_enters_with_its_second_probe_however_late_if_no_other_source_takes_its_place() {
        let mut table = Table::new();
        assert!(!table.enters(1));
        assert!(table.enters(1));
        assert!(table.enters(1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "a million times is too much for an interpreter")]
    fn of_a_million_forged_sources_none_enters() {
        let mut table = Table::new();
        let entered = forged(1_000_000).filter(|source| table.enters(*source)).count();
        assert!(entered <= 1, "{entered}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "a flood is too much for an interpreter")]
    fn under_a_flood_a_source_is_known_for_as_long_as_the_formula_says() {
        for between in [PLACES as u32 / 8, PLACES as u32, 2 * PLACES as u32] {
            let mut table = Table::new();
            let mut flood = forged(u32::MAX).filter(|source| source >> 24 != 10);
            let trials = 200u32;
            // All at once, since the test would take minutes otherwise. They take one place each of a million.
            let sources: Vec<u32> = (0..trials).map(|number| 10 << 24 | number.wrapping_mul(7919)).collect();
            sources.iter().for_each(|source| _ = table.enters(*source));
            (0..between).for_each(|_| _ = table.enters(flood.next().unwrap_or_default()));
            let known = sources.iter().filter(|source| table.enters(**source)).count();
            let expected = f64::from(trials) * (-f64::from(between) / PLACES as f64).exp();
            let deviation = (expected * (1.0 - expected / f64::from(trials))).sqrt();
            assert!(
                (known as f64 - expected).abs() <= 4.0 * deviation + 1.0,
                "{between} between: {known} known, {expected} expected"
            );
        }
    }

    #[test]
    fn another_salt_is_another_place() {
        let source = Ipv4Addr::new(192, 0, 2, 1).into();
        let first = Mark::new(source, 0);
        assert!((1..64).filter(|salt| Mark::new(source, *salt).place == first.place).count() <= 1);
    }
}
