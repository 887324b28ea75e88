//! Names and layouts by which the agent and the kernel program find each other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{account::SourceState, address::Address, tally::Tally};

/// Name of the XDP program.
pub const PROGRAM: &str = "scanguard_xdp";
/// Name of the tcx program that looks at what leaves.
pub const EGRESS_PROGRAM: &str = "scanguard_egress";
/// Map of [`Address`] to [`SourceState`]: one entry a source.
pub const SOURCES: &str = "SOURCES";
/// Per-CPU array with one [`Tally`].
pub const TALLY: &str = "TALLY";
/// Array with one [`Control`].
pub const CONTROL: &str = "CONTROL";

/// Global: the version of this contract, by its name. An object of another layout lacks
/// it, and the agent refuses to load that.
pub const VERSION: &str = "SCANGUARD_ABI_5";
/// Global, `[u64; 2]`: the words of [`crate::address::SourceMask`].
pub const SOURCE_MASK: &str = "SOURCE_MASK";
/// Global, `u64`: the salt of [`crate::sketch`].
pub const SALT: &str = "SALT";

/// Sources that the table holds unless the agent is told otherwise.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;

/// LPM trie of [`Address`] to a number: which addresses are ours, see [`HOME_LOCAL`] and [`HOME_ROUTED`].
pub const HOME: &str = "HOME";
/// This host's own addresses.
pub const HOME_LOCAL: u32 = 1;
/// Networks that are routed to this host.
pub const HOME_ROUTED: u32 = 2;
/// LRU map of [`Address`] to the epoch in which it answered last: routed addresses that live.
pub const LIVE: &str = "LIVE";
/// Addresses that it holds.
pub const MAX_LIVE: u32 = 65_536;
/// LRU map of [`ServiceKey`] to the epoch in which it answered last, though no socket here is its.
pub const PUBLISHED: &str = "PUBLISHED";
/// Services that it holds.
pub const MAX_PUBLISHED: u32 = 4_096;
/// Networks that [`HOME`] holds.
pub const MAX_HOME: u32 = 16_384;

/// A service at an address.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ServiceKey {
    /// Address.
    pub address: Address,
    /// Port in host byte order.
    pub port: u16,
    /// Protocol.
    pub protocol: u8,
    /// Explicit padding.
    pub reserved: u8,
    /// Explicit padding.
    pub reserved2: u32,
}

impl ServiceKey {
    /// Nothing.
    pub const NONE: Self =
        Self { address: Address::UNSPECIFIED, port: 0, protocol: 0, reserved: 0, reserved2: 0 };
}

/// What the agent tells the running program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// The agent's poll number, see [`SourceState`].
    pub epoch: u32,
    /// 1 where this host forwards, so that a port without a socket may be somebody else's.
    pub forwards: u32,
    /// From how many news of a source on the agent is to be told at once; 0: never.
    pub trip: u32,
    /// For how many epochs an entry of [`LIVE`] counts.
    pub live_epochs: u32,
    /// For how many epochs an entry of [`PUBLISHED`] counts.
    pub published_epochs: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// Ring buffer of [`Trip`].
pub const TRIPS: &str = "TRIPS";

/// Something new of a source that has shown much that is new.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Trip {
    /// The source.
    pub source: Address,
    /// Kernel monotonic time in nanoseconds.
    pub time_ns: u64,
}

// The sizes that the maps are made with. A change here is a change of `VERSION`.
const _: () = assert!(size_of::<Address>() == 16);
const _: () = assert!(size_of::<SourceState>() == 16 + 88 + 16 + 16 + 8 + 2 * 120 + 4 * 24);
const _: () = assert!(size_of::<Control>() == 24);
const _: () = assert!(size_of::<Tally>() == 8 * (21 + 22 + 3 + 4 + 4 + 9));

#[cfg(feature = "user")]
mod pod {
    use super::{Control, Tally};

    // SAFETY: plain data without padding (`IntoBytes`), valid for all bytes (`FromBytes`), `Copy`.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tally {}
}
