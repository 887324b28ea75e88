//! Estimates how many distinct things set the bits of a bitmap.

/// An estimated number of distinct things.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Estimate {
    /// The most likely number.
    pub value: u64,
    /// All bits are set: the real number may be much larger.
    pub saturated: bool,
}

impl Estimate {
    /// The same, but limited: this many probes hit no more distinct things.
    #[must_use]
    pub fn at_most(self, most: u64) -> Self {
        Self { value: self.value.min(most), ..self }
    }

    /// The number of these and of other things.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { value: self.value + other.value, saturated: self.saturated || other.saturated }
    }
}

/// Linear counting (Whang, Vander-Zanden, Taylor, ACM TODS 15(2), 1990): with z of m bits still zero, `m ln(m/z)`
/// things are the maximum-likelihood number. For `m = 512` the standard error is 3 % at 100 things, 5 % at 1,000 and
/// 13 % at 2,000; for `m = 256` it is 5 % at 100 and 250, 7 % at 500.
pub fn estimate(words: &[u64]) -> Estimate {
    let bits: u32 = words.iter().map(|_| u64::BITS).sum();
    let zero: u32 = words.iter().map(|word| word.count_zeros()).sum();
    linear_count(bits, zero)
}

/// As [`estimate`], for a bitmap of so many bits of which so many are zero.
pub fn linear_count(bits: u32, zero: u32) -> Estimate {
    let size = f64::from(bits);
    // With no zero bit left, the estimate assumes one: the next thing would have found at least that many.
    let value = (size * (size / f64::from(zero.max(1))).ln()).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to about 512 * ln 512")]
    let value = value as u64;
    Estimate { value, saturated: zero == 0 }
}

/// Distinct things in fixed memory. Each sets a bit by its hash, whose salt must stay secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sketch<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Sketch<WORDS> {
    /// No things.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds a thing by its hash.
    pub fn add(&mut self, hash: u64) {
        // The upper half selects the word, the lower half the bit in it.
        let word = (hash >> 32) % WORDS as u64;
        if let Some(word) = usize::try_from(word).ok().and_then(|word| self.0.get_mut(word)) {
            *word |= 1 << (hash % u64::from(u64::BITS));
        }
    }

    /// Whether a thing with this hash may have been added; if not, it was not.
    pub fn may_have(&self, hash: u64) -> bool {
        let mut same = *self;
        same.add(hash);
        same == *self
    }

    /// Adds the things of another one with the same salt.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// The things of both.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.union(other);
        self
    }

    /// How many there are.
    pub fn count(&self) -> Estimate {
        estimate(&self.0)
    }
}

impl std::fmt::Display for Estimate {
    /// Small numbers are exact for all practical purposes. Larger ones are marked as estimates.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { saturated: true, value } => write!(f, "more than {value}"),
            Self { value: 0..=8, .. } => write!(f, "{}", self.value),
            Self { value, .. } => write!(f, "about {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scanguard_common::{
        outcome::Service,
        sketch::{SERVICE_WORDS, service_bit},
    };

    use super::*;

    fn estimate_of(ports: impl IntoIterator<Item = u16>, salt: u64) -> Estimate {
        let mut words = [0; SERVICE_WORDS];
        for port in ports {
            let bit = service_bit(Service { protocol: 6, port }, salt);
            words[bit.word] |= bit.mask;
        }
        estimate(&words)
    }

    #[test]
    fn nothing_is_zero_and_everything_is_saturated() {
        assert_eq!(estimate(&[0; SERVICE_WORDS]), Estimate { value: 0, saturated: false });
        assert!(estimate(&[u64::MAX; SERVICE_WORDS]).saturated);
        assert_eq!(estimate_of([80], 1).value, 1);
    }

    #[test]
    fn a_thing_counts_once_however_often_it_is_added() {
        let mut sketch = Sketch::<8>::EMPTY;
        for round in 0..3 {
            for thing in 0..100u64 {
                sketch.add(hash(thing));
            }
            let count = sketch.count().value;
            assert!((90..=110).contains(&count), "{count} after {round}");
        }
    }

    /// Any hash with well-mixed bits will do.
    fn hash(thing: u64) -> u64 {
        use std::hash::BuildHasher as _;
        std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(thing)
    }

    proptest! {
        // Four standard errors, and two for rounding: one run in 10,000 may exceed this.
        #[test]
        fn consecutive_ports_are_estimated_within_the_stated_error(
            first in any::<u16>(), count in 1u16..1500, salt in any::<u64>()
        ) {
            let exact = f64::from(count);
            let estimate = estimate_of((0..count).map(|port| first.wrapping_add(port)), salt).value as f64;
            let load = exact / 512.0;
            let error = (512.0 * (load.exp() - load - 1.0)).sqrt();
            prop_assert!((estimate - exact).abs() <= 5.0 * error + 2.0, "{estimate} for {exact}");
        }
    }
}
