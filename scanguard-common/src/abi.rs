//! Names and layouts by which the agent and the kernel program find each other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{account::SourceState, address::Address, tally::Tally};

/// Name of the XDP program.
pub const PROGRAM: &str = "scanguard_xdp";
/// Map of [`Address`] to [`SourceState`]: one entry a source.
pub const SOURCES: &str = "SOURCES";
/// Per-CPU array with one [`Tally`].
pub const TALLY: &str = "TALLY";
/// Array with one [`Control`].
pub const CONTROL: &str = "CONTROL";

/// Global: the version of this contract, by its name. An object of another layout lacks
/// it, and the agent refuses to load that.
pub const VERSION: &str = "SCANGUARD_ABI_1";
/// Global, `[u64; 2]`: the words of [`crate::address::SourceMask`].
pub const SOURCE_MASK: &str = "SOURCE_MASK";
/// Global, `u64`: the salt of [`crate::sketch`].
pub const SALT: &str = "SALT";

/// Sources that the table holds unless the agent is told otherwise.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;

/// What the agent tells the running program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// The agent's poll number, see [`SourceState`].
    pub epoch: u32,
    /// Explicit padding.
    pub reserved: u32,
}

// The sizes that the maps are made with. A change here is a change of `VERSION`.
const _: () = assert!(size_of::<Address>() == 16);
const _: () = assert!(size_of::<SourceState>() == 16 + 80 + 2 * 96 + 4 * 24);
const _: () = assert!(size_of::<Control>() == 8);
const _: () = assert!(size_of::<Tally>() == 8 * (19 + 19 + 1));

#[cfg(feature = "user")]
mod pod {
    use super::{Control, Tally};

    // SAFETY: plain data without padding (`IntoBytes`), valid for all bytes (`FromBytes`), `Copy`.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tally {}
}
