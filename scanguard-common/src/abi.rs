//! Names and layouts by which the agent and the kernel program find each other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    account::{Sample, SourceState},
    address::Address,
    tally::Tally,
};

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
pub const VERSION: &str = "SCANGUARD_ABI_10";
/// Global, `[u64; 2]`: the words of [`crate::address::SourceMask`].
pub const SOURCE_MASK: &str = "SOURCE_MASK";
/// Global, `u64`: the salt of [`crate::sketch`].
pub const SALT: &str = "SALT";
/// Global, `[u32; FIELDS]`: where the [`crate::proof::Field`]s lie in their structures, in bytes.
pub const FIELD_OFFSETS: &str = "FIELD_OFFSETS";
/// Global, `u32`: 0 where the offsets are not known. Then nothing is proven, and the verifier takes what would prove it out
/// of the program.
pub const PROOF: &str = "PROOF";
/// Global, `u32`: the number of the network namespace whose connections count, see
/// [`crate::proof::Field::NamespaceNumber`].
pub const NAMESPACE: &str = "NAMESPACE";
/// Name of the program that hears of connections, for the raw tracepoint [`CONNECTIONS_TRACEPOINT`].
pub const CONNECTIONS_PROGRAM: &str = "scanguard_connections";
/// The tracepoint at which the kernel says that a TCP socket changes its state (include/trace/events/sock.h).
pub const CONNECTIONS_TRACEPOINT: &str = "inet_sock_set_state";

/// Sources that the table holds unless the agent is told otherwise.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;

/// Array of [`Address`] with [`change_places`] entries: a ring of the sources that did something. A source is written
/// with the first thing that it does in an epoch.
pub const CHANGES: &str = "CHANGES";
/// Array with one `u64`: how many were ever written to [`CHANGES`]. The next goes to the place of this number, modulo
/// the size of the ring: whoever reads knows by it what was overwritten before it was read.
pub const CHANGE_COUNT: &str = "CHANGE_COUNT";
/// Global, `u32`: the places of [`CHANGES`], less one.
pub const CHANGES_MASK: &str = "CHANGES_MASK";
/// Name of the program that copies the states of sources in [`CHANGES`] to [`READ`]. The frame that it is run on begins
/// with a [`ReadRequest`]; it returns how many it copied.
pub const READ_PROGRAM: &str = "scanguard_read";
/// Array of [`Reading`] that can be mapped into memory.
pub const READ: &str = "READ";
/// Entries of [`READ`], and the most that [`READ_PROGRAM`] takes in one run, during which its CPU does nothing else: a
/// tenth of a millisecond. What it reads then fits into the second cache.
pub const READ_AT_ONCE: u32 = 256;

/// Places of [`CHANGES`] for a table of so many sources: more than there can be sources in an epoch, and a power of two.
pub const fn change_places(max_sources: u32) -> u32 {
    max_sources.saturating_add(1).next_power_of_two()
}

/// Which of [`CHANGES`] are to be read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ReadRequest {
    /// The first, by [`CHANGE_COUNT`].
    pub first: u64,
    /// How many, at most [`READ_AT_ONCE`].
    pub count: u64,
}

/// A source as it was when it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Reading {
    /// The source.
    pub source: Address,
    /// Its state.
    pub state: SourceState,
}

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
    /// What the gate does: one of [`GATE_OFF`], [`GATE_DRY_RUN`], [`GATE_ENFORCE`].
    pub gate: u32,
    /// 1 where a banned source's packets are dropped whatever they are, 0 where those that belong to this host's own
    /// connections pass.
    pub drop_all: u32,
    /// Exact bans and banned networks that there are, so that nothing is looked up where there are none.
    pub bans: u32,
    /// As above: networks.
    pub banned_networks: u32,
    /// As above: sources that are shielded from.
    pub shields: u32,
    /// Version of the allow list, never 0; see [`Ban::cleared`].
    pub allowed_version: u32,
    /// New sources an epoch that enter the table on each CPU with their first probe, see [`crate::door`].
    pub free_entries: u32,
    /// Version of [`HOME`].
    pub home_version: u32,
    /// Samples of one source an epoch, of what it says and again of what it is answered, see [`crate::sample`].
    pub source_samples: u32,
    /// Samples an epoch on each CPU.
    pub cpu_samples: u32,
    /// For how many epochs both are saved.
    pub sample_epochs: u32,
    /// From how many services or addresses on that a source missed for certain within an epoch it is held, see [`crate::hold`]; 0: never.
    pub reflex: u32,
    /// For how many jiffies it is held.
    pub reflex_ticks: u32,
    /// How many sources are held in an epoch at most.
    pub reflex_most: u32,
    /// For how many jiffies an epoch lasts at most: then the agent is gone, and the program moves on by itself, see [`RUNNING`];
    /// 0: until the agent ends it.
    pub epoch_ticks: u32,
}

/// Array with one [`Running`].
pub const RUNNING: &str = "RUNNING";

/// The epoch by which the distinct things of sources are kept, see [`crate::epoch`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Running {
    /// Since when it runs, in jiffies.
    pub since: u64,
    /// Its number.
    pub epoch: u32,
    /// [`Control::epoch`] when that was looked at last: another number now is the agent's, and runs instead.
    pub told: u32,
}

/// [`Control::gate`]: bans are not looked at.
pub const GATE_OFF: u32 = 0;
/// [`Control::gate`], [`Ban::mode`]: what would be dropped is counted and passes.
pub const GATE_DRY_RUN: u32 = 1;
/// [`Control::gate`], [`Ban::mode`]: what is banned is dropped. Both must say so: a ban that was made in dry run never
/// drops, whatever the gate does by then.
pub const GATE_ENFORCE: u32 = 2;

/// Hash of [`Address`], masked as in [`SOURCES`], to [`Ban`]: banned sources.
pub const BANS: &str = "BANS";
/// Bans that it holds unless the agent is told otherwise.
pub const DEFAULT_MAX_BANS: u32 = 65_536;
/// LPM trie of [`Address`] to [`Ban`]: banned networks, and IPv6 addresses longer than the mask of sources.
pub const BANNED_NETWORKS: &str = "BANNED_NETWORKS";
/// Networks that it holds.
pub const MAX_BANNED_NETWORKS: u32 = 131_072;
/// Hash of [`Address`], masked as in [`SOURCES`], to [`Ban`]: sources that are shielded from, see [`crate::shield`]. A map of
/// its own: whoever forges addresses can fill this one, and none of [`BANS`] goes for it.
pub const SHIELDS: &str = "SHIELDS";
/// Sources that it holds.
pub const MAX_SHIELDS: u32 = 65_536;
/// LPM trie of [`Address`] to a number that says nothing: who is never dropped, whatever ban there is.
pub const ALLOWED: &str = "ALLOWED";
/// Networks that it holds.
pub const MAX_ALLOWED: u32 = 16_384;
/// Name of the program that writes the kernel's `jiffies_64` into the first 8 bytes of the frame that it is run on, in
/// host byte order: the clock by which bans end.
pub const CLOCK_PROGRAM: &str = "scanguard_clock";

/// A ban or a shield. It ends by itself, whether the agent lives or not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Ban {
    /// `jiffies_64` from which on it counts no more; [`NEVER`]: it does not end.
    pub expires: u64,
    /// [`GATE_DRY_RUN`] or [`GATE_ENFORCE`].
    pub mode: u32,
    /// The program's own: the [`Control::allowed_version`] for which the source was found not to be allowed.
    pub cleared: u32,
    /// Packets that were dropped, or would have been. Not exact when several CPUs count at once; the tally is.
    pub dropped: u64,
    /// `jiffies_64` of the last of them, 0 if there was none.
    pub last: u64,
}

/// [`Ban::expires`] of a ban without an end.
pub const NEVER: u64 = u64::MAX;

/// Per-CPU array with one [`TurnedAway`].
pub const TURNED_AWAY: &str = "TURNED_AWAY";
/// Examples a CPU.
pub const TURNED_AWAY_SAMPLES: usize = 8;

/// What those probed whom the doorkeeper turned away, see [`crate::door`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct TurnedAway {
    /// Probes on this CPU since the program was loaded.
    pub count: u64,
    /// Some of the last of them.
    pub samples: [Sample; TURNED_AWAY_SAMPLES],
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

/// Ring buffer of samples: a [`SampleHeader`], then the bytes.
pub const SAMPLES: &str = "SAMPLES";
/// Global, `[u64; PORT_WORDS]`: the [`crate::sample::Ports`] of TCP at which payloads are looked at; none: nowhere.
pub const TCP_PORTS: &str = "TCP_PORTS";
/// Global, as above: the ports at which DNS is spoken, over TCP and UDP. The other ones of TCP speak HTTP or TLS.
pub const DNS_PORTS: &str = "DNS_PORTS";
/// Global, `u32`: 0 where nothing is sampled, so that the verifier takes all of it out of the program.
pub const SAMPLING: &str = "SAMPLING";

/// What precedes the bytes of a sample in the ring buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct SampleHeader {
    /// The client, masked as sources are.
    pub source: Address,
    /// The address of this host's side.
    pub host: Address,
    /// The port of this host's side, in host byte order.
    pub port: u16,
    /// The port of the client's side, in host byte order.
    pub client_port: u16,
    /// Protocol.
    pub protocol: u8,
    /// Number of [`crate::content::Begins`].
    pub begins: u8,
    /// 1 where it was said by the source that it names: the segment's numbers fit the socket of the connection
    /// ([`crate::proof`]); of an answer: this host sent it.
    pub owned: u8,
    /// Explicit padding.
    pub reserved: u8,
}

// The sizes that the maps are made with. A change here is a change of `VERSION`.
const _: () = assert!(size_of::<Address>() == 16);
const _: () = assert!(size_of::<SourceState>() == 32 + 96 + 16 + 16 + 8 + 2 * 128 + 4 * 24);
const _: () = assert!(size_of::<Control>() == 80);
const _: () = assert!(size_of::<Running>() == 16);
const _: () = assert!(size_of::<Ban>() == 32);
const _: () = assert!(size_of::<SampleHeader>() == 40);
const _: () = assert!(size_of::<Tally>() == 8 * (25 + 24 + 8 + 4 + 4 + 9 + 5 + 4));

#[cfg(feature = "user")]
mod pod {
    use super::{Ban, Control, Running, Tally, TurnedAway};

    // SAFETY: plain data without padding (`IntoBytes`), valid for all bytes (`FromBytes`), `Copy`.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Running {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tally {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Ban {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TurnedAway {}
}
