//! The doorkeeper: who may enter the table of sources when more knock than it has room for.
//!
//! An entry costs eight times a look-up and pushes another source out, and a flood of forged sources would have one made for
//! each of its packets. So only a number of new sources an epoch enter at once; after that, a source enters with its second
//! probe. Its first leaves a fingerprint on a place that its address gives, which stays until another source falls on it:
//! with `m` places and `r` new sources a second, a source that probes again after `t` seconds is still known with a
//! probability of `exp(-r t / m)`. In quiet times that is for ever, and nothing is ever cleared.
//!
//! Two sources with one fingerprint on one place would be taken for one: both then enter, once in 2^32 pairs. Places and
//! fingerprints depend on a secret, so that nobody can choose sources that push out those of another.

use crate::{address::Address, flow::stir};

/// Places, 4 bytes each; a power of two.
pub const PLACES: usize = 1 << 20;

/// The place of a source and its fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Knock {
    /// Below [`PLACES`].
    pub place: u32,
    /// Never 0, which is what an empty place holds.
    pub fingerprint: u32,
}

impl Knock {
    /// Of a source.
    #[inline(always)]
    pub fn new(source: Address, salt: u64) -> Self {
        let [high, low] = source.words();
        // One more turn than a tag has: the fingerprint takes the lower half, whose bits few others move.
        let hash = stir(stir(stir(salt, low), high), low);
        Self { place: (hash >> 44) as u32 & (PLACES as u32 - 1), fingerprint: hash as u32 | 1 }
    }

    /// Whether the source has knocked before, given what its place holds: otherwise the fingerprint is to be
    /// left there.
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
    struct Door(Vec<u32>);

    impl Door {
        fn new() -> Self {
            Self(vec![0; PLACES])
        }

        fn enters(&mut self, source: u32) -> bool {
            let knock = Knock::new(Ipv4Addr::from(source).into(), 0x5ca9);
            let held = &mut self.0[knock.place as usize];
            let is_known = knock.is_known(*held);
            *held = knock.fingerprint;
            is_known
        }
    }

    /// A sequence that visits each number once.
    fn forged(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|number| number.wrapping_mul(0x9e37_79b1))
    }

    #[test]
    fn a_source_enters_with_its_second_probe_however_late_if_nobody_else_knocks() {
        let mut door = Door::new();
        assert!(!door.enters(1));
        assert!(door.enters(1));
        assert!(door.enters(1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "a million times is too much for an interpreter")]
    fn of_a_million_forged_sources_none_enters() {
        let mut door = Door::new();
        let entered = forged(1_000_000).filter(|source| door.enters(*source)).count();
        assert!(entered <= 1, "{entered}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "a flood is too much for an interpreter")]
    fn under_a_flood_a_source_is_known_for_as_long_as_the_formula_says() {
        for between in [PLACES as u32 / 8, PLACES as u32, 2 * PLACES as u32] {
            let mut door = Door::new();
            let mut flood = forged(u32::MAX).filter(|source| source >> 24 != 10);
            let trials = 200u32;
            // All of them at once, or the test would take minutes: they take a place each of a million.
            let sources: Vec<u32> = (0..trials).map(|number| 10 << 24 | number.wrapping_mul(7919)).collect();
            sources.iter().for_each(|source| _ = door.enters(*source));
            (0..between).for_each(|_| _ = door.enters(flood.next().unwrap_or_default()));
            let known = sources.iter().filter(|source| door.enters(**source)).count();
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
        let first = Knock::new(source, 0);
        assert!((1..64).filter(|salt| Knock::new(source, *salt).place == first.place).count() <= 1);
    }
}
