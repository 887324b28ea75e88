//! Counters and bitmaps in little memory: an [`Activity`] has many words, and most sources use only a few.
//!
//! It keeps only the words that are not zero, with a bit for each that tells which they are. A few fit without memory
//! of their own, which is enough for a source with one probe.

use smallvec::SmallVec;

/// At most 64 times `MASKS` words that are mostly zero. Up to `ROOM` others take no further memory.
#[derive(Clone, Debug)]
pub(super) struct Packed<const ROOM: usize, const MASKS: usize> {
    present: [u64; MASKS],
    words: SmallVec<[u32; ROOM]>,
}

impl<const ROOM: usize, const MASKS: usize> Default for Packed<ROOM, MASKS> {
    fn default() -> Self {
        Self { present: [0; MASKS], words: SmallVec::new() }
    }
}

impl<const ROOM: usize, const MASKS: usize> Packed<ROOM, MASKS> {
    /// Packs these words.
    pub(super) fn of<const N: usize>(words: &[u32; N]) -> Self {
        const { assert!(N <= MASKS * 64, "a bit for each word") };
        let count = words.iter().filter(|word| **word != 0).count();
        let mut packed = Self { present: [0; MASKS], words: SmallVec::with_capacity(count) };
        for (place, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            packed.present[place / 64] |= 1 << (place % 64);
            packed.words.push(*word);
        }
        packed
    }

    /// The words that are not zero, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        let places = self.present.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let place = (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(place)
            })
        });
        places.zip(self.words.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_out(
            words in prop::array::uniform32(prop_oneof![3 => Just(0u32), 1 => any::<u32>()])
        ) {
            let mut out = [0; 32];
            for (place, word) in Packed::<4, 1>::of(&words).iter() {
                out[place] = word;
            }
            prop_assert_eq!(out, words);
        }
    }

    #[test]
    fn all_places_can_be_told_apart() {
        let mut words = [0; 128];
        (words[0], words[63], words[64], words[127]) = (1, 2, 3, 4);
        let all: Vec<_> = Packed::<2, 2>::of(&words).iter().collect();
        assert_eq!(all, [(0, 1), (63, 2), (64, 3), (127, 4)]);
    }
}
