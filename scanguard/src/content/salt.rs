//! What is mixed into the hashes of what clients say, so that nobody outside can make two of them meet.

use std::hash::{BuildHasher, DefaultHasher, Hasher as _, RandomState};

/// A secret number; the same one makes runs over captures reproducible.
#[derive(Clone, Copy, Debug)]
pub struct Salt(pub u64);

impl Default for Salt {
    /// At random.
    fn default() -> Self {
        Self(RandomState::new().hash_one("scanguard"))
    }
}

impl BuildHasher for Salt {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
