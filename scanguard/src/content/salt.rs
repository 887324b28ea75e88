//! The salt of hashes of clients' texts: with it, nobody outside can make two texts with the same hash.

use std::hash::{BuildHasher, DefaultHasher, Hasher as _, RandomState};

/// A secret number. A fixed one makes runs over captures reproducible.
#[derive(Clone, Copy, Debug)]
pub struct Salt(pub u64);

impl Default for Salt {
    /// A random salt.
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
