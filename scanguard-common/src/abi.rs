//! Names and layouts by which the agent and the kernel program find each other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    account::{Sample, SourceState},
    address::Address,
    on_link::OnLink,
    outcome::PortRange,
    tally::Tally,
};

/// Name of the XDP program.
pub const PROGRAM: &str = "scanguard_xdp";
/// Name of the XDP program for links without a header. The kernel keeps 15 bytes of a name.
pub const BARE_PROGRAM: &str = "scanguard_bare";
/// Name of the program that tc runs in place of [`PROGRAM`], in an object of its own.
pub const TC_PROGRAM: &str = "scanguard_tc";
/// Name of the program of XDP that does nothing, in an object of its own: an interface takes it or not.
pub const TRIAL_PROGRAM: &str = "scanguard_trial";
/// The same for tc.
pub const TC_TRIAL_PROGRAM: &str = "scanguard_try_tc";
/// Name of the egress program for such links.
pub const BARE_EGRESS_PROGRAM: &str = "scanguard_bare_out";
/// Name of the program that looks at outgoing packets.
pub const EGRESS_PROGRAM: &str = "scanguard_egress";
/// Map of [`Address`] to [`SourceState`]: one entry for each source.
pub const SOURCES: &str = "SOURCES";
/// Per-CPU array with one [`Tally`].
pub const TALLY: &str = "TALLY";
/// Array with one [`Control`].
pub const CONTROL: &str = "CONTROL";

/// Global: its name is the version of this contract. An object of another layout lacks this name, and the agent
/// refuses to load it.
pub const VERSION: &str = "SCANGUARD_ABI_14";
/// Global, `[u64; 2]`: the words of [`crate::address::SourceMask`].
pub const SOURCE_MASK: &str = "SOURCE_MASK";
/// Global, `u64`: the salt of [`crate::sketch`].
pub const SALT: &str = "SALT";
/// Global, `[u32; FIELDS]`: the offsets of the [`crate::proof::Field`]s in their structures, in bytes.
pub const FIELD_OFFSETS: &str = "FIELD_OFFSETS";
/// Global, `[u32; 2]`: the offset of the byte in `struct inet_sock` that says whether a socket may own addresses of others
/// (IP_TRANSPARENT), and the bit in that byte. Both are 0 where [`PROOF`] is.
pub const TRANSPARENT: &str = "TRANSPARENT";
/// Array of words with the MAC addresses of the interfaces that the program is attached to, see [`own_mac`]; 0: none.
/// Frames for other addresses are overheard, see [`crate::account::Around::is_overheard`].
pub const OWN_MACS: &str = "OWN_MACS";
/// How many places [`OWN_MACS`] has; a power of two. An interface has the place of its number modulo this. Frames of an
/// interface whose place is taken count as its own.
pub const MAX_OWN_MACS: u32 = 256;

/// The word of an interface in [`OWN_MACS`]: the six bytes of its MAC address as a frame has them in the lower bits, and
/// above them the part of its number by which interfaces of one place differ.
#[inline(always)]
pub const fn own_mac(interface: u32, frame: u64) -> u64 {
    const BITS: u32 = 48;
    let rest = (interface / MAX_OWN_MACS) as u64;
    u64::from_le(frame) & ((1 << BITS) - 1) | rest << BITS
}
/// Global, `u32`: 0 where the offsets are not known. Then nothing is proven, and the verifier removes the code for
/// proofs from the program.
pub const PROOF: &str = "PROOF";
/// Global, `u32`: the number of the network namespace whose connections count, see
/// [`crate::proof::Field::NamespaceNumber`].
pub const NAMESPACE: &str = "NAMESPACE";
/// Name of the program that counts connections. It runs at the raw tracepoint [`CONNECTIONS_TRACEPOINT`].
pub const CONNECTIONS_PROGRAM: &str = "scanguard_connections";
/// The kernel reaches this tracepoint when a TCP socket changes its state (include/trace/events/sock.h).
pub const CONNECTIONS_TRACEPOINT: &str = "inet_sock_set_state";

/// How many sources the table has room for, unless the agent sets another number.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;

/// Array of [`Address`] with [`change_places`] entries: a ring of the sources that did something. The program writes a
/// source into it with the first thing that the source does in an epoch.
pub const CHANGES: &str = "CHANGES";
/// Array with one `u64`: how many entries were ever written to [`CHANGES`]. The next entry goes to the place of this
/// number, modulo the size of the ring. A reader sees by it which entries were overwritten before it read them.
pub const CHANGE_COUNT: &str = "CHANGE_COUNT";
/// Global, `u32`: the number of places of [`CHANGES`], less one.
pub const CHANGES_MASK: &str = "CHANGES_MASK";
/// Name of the program that copies the states of sources in [`CHANGES`] to [`READ`]. The frame that it runs on begins
/// with a [`ReadRequest`]. It returns how many states it copied.
pub const READ_PROGRAM: &str = "scanguard_read";
/// Array of [`Reading`]. The agent can map it into its memory.
pub const READ: &str = "READ";
/// Entries of [`READ`]. [`READ_PROGRAM`] reads no more in one run, because its CPU does nothing else meanwhile: a
/// tenth of a millisecond. So many entries fit into the second cache.
pub const READ_AT_ONCE: u32 = 256;

/// Number of places of [`CHANGES`] for a table of so many sources. It is a power of two, and more than there can be
/// sources in an epoch.
pub const fn change_places(max_sources: u32) -> u32 {
    max_sources.saturating_add(1).next_power_of_two()
}

/// Which entries of [`CHANGES`] to read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ReadRequest {
    /// The first entry, numbered as in [`CHANGE_COUNT`].
    pub first: u64,
    /// How many entries, at most [`READ_AT_ONCE`].
    pub count: u64,
}

/// A source and its state at the time of reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Reading {
    /// The source.
    pub source: Address,
    /// Its state.
    pub state: SourceState,
}

/// LPM trie of [`Address`] to a number: the addresses that are ours, see [`HOME_LOCAL`] and [`HOME_ROUTED`].
pub const HOME: &str = "HOME";
/// This host's own addresses.
pub const HOME_LOCAL: u32 = 1;
/// Networks that are routed to this host.
pub const HOME_ROUTED: u32 = 2;
/// LRU map of [`Address`] to the epoch in which it answered last: routed addresses that are in use.
pub const LIVE: &str = "LIVE";
/// How many addresses [`LIVE`] has room for.
pub const MAX_LIVE: u32 = 65_536;
/// LRU map of [`ServiceKey`] to the epoch in which it answered last: services that answer though no socket of this
/// host belongs to them.
pub const PUBLISHED: &str = "PUBLISHED";
/// How many services [`PUBLISHED`] has room for.
pub const MAX_PUBLISHED: u32 = 4_096;
/// Array with one `u32`: how often the program forgot what it remembered of services, because one answered for the first
/// time. 0: nothing without a socket here has ever answered, and the program does not look for such services.
pub const FORGOTTEN: &str = "FORGOTTEN";
/// How many networks [`HOME`] has room for.
pub const MAX_HOME: u32 = 16_384;

/// LPM trie of [`Address`] to the length of the prefix: the prefixes of translators that the operator names, see
/// [`crate::translator`].
pub const TRANSLATORS: &str = "TRANSLATORS";
/// How many prefixes [`TRANSLATORS`] has room for.
pub const MAX_TRANSLATORS: u32 = 64;

/// A service at an address.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout,
)]
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
    /// No service.
    pub const NONE: Self =
        Self { address: Address::UNSPECIFIED, port: 0, protocol: 0, reserved: 0, reserved2: 0 };
}

/// The agent's settings for the running program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// The agent's poll number, see [`SourceState`].
    pub epoch: u32,
    /// 1 if this host forwards packets. Then a port without a socket may belong to another host.
    pub forwards: u32,
    /// The program wakes the agent for a source from this number of novelties on, see [`crate::wakeup`]; 0: never.
    pub wakeup: u32,
    /// For how many epochs an entry of [`LIVE`] is valid.
    pub live_epochs: u32,
    /// For how many epochs an entry of [`PUBLISHED`] is valid.
    pub published_epochs: u32,
    /// The gate's mode: one of [`GATE_OFF`], [`GATE_DRY_RUN`], [`GATE_ENFORCE`].
    pub gate: u32,
    /// 1: all packets of a banned source are dropped. 0: packets that belong to this host's own connections pass.
    pub drop_all: u32,
    /// Number of exact bans. Where it is 0, the program skips the look-up.
    pub bans: u32,
    /// Number of banned networks, for the same reason.
    pub banned_networks: u32,
    /// Number of shielded sources, for the same reason.
    pub shields: u32,
    /// Version of the allow list, never 0. See [`Ban::cleared`].
    pub allowed_version: u32,
    /// How many new sources enter the table on each CPU in an epoch with their first probe, see [`crate::admission`].
    pub free_entries: u32,
    /// Version of [`HOME`].
    pub home_version: u32,
    /// Samples of one source in an epoch. Its requests and the answers to it each have this budget, see
    /// [`crate::sample`].
    pub source_samples: u32,
    /// Samples in an epoch on each CPU.
    pub cpu_samples: u32,
    /// For how many epochs unused samples of both budgets are saved.
    pub sample_epochs: u32,
    /// The program holds a source that missed for certain so many services or addresses within an epoch, see
    /// [`crate::hold`]; 0: never.
    pub hold_from: u32,
    /// How long a hold lasts, in jiffies.
    pub hold_ticks: u32,
    /// How many holds may begin in an epoch at most.
    pub max_holds: u32,
    /// How long an epoch lasts at most, in jiffies. After that the agent is gone, and the program moves on by itself,
    /// see [`RUNNING`]. 0: an epoch lasts until the agent ends it.
    pub epoch_ticks: u32,
    /// Numbers of novelties at which a rule can first match, see [`crate::wakeup`]: bit 9 stands for nine.
    pub wakeup_at: u64,
    /// For how many epochs a flow that this host used counts as used, see [`crate::used`].
    pub used_epochs: u32,
    /// For how many epochs a listener counts as one that has just begun. It may be there for one connection only, as
    /// those of passive FTP are: who connects to it has not found one more service.
    pub young_epochs: u32,
    /// The ports from which this host calls.
    pub ports: PortRange,
    /// 1 if the program sees what leaves by all of its interfaces.
    pub sees_leaving: u32,
    /// Number of shielded networks, as [`Control::shields`].
    pub shielded_networks: u32,
    /// 1 if the answers to probes are seen when they leave, see [`crate::account::Around::sees_answers`].
    pub sees_answers: u32,
    /// The [`crate::translator::Filter`] in front of [`TRANSLATORS`].
    pub translators: u64,
    /// The prefixes in which each address is a source.
    pub on_link: OnLink,
}

/// Array with one [`Running`].
pub const RUNNING: &str = "RUNNING";

/// The epoch in which the program keeps the distinct things of sources, see [`crate::epoch`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Running {
    /// When it began, in jiffies.
    pub since: u64,
    /// Its number.
    pub epoch: u32,
    /// [`Control::epoch`] at the last look. If that number is another one now, the agent has set it, and it becomes
    /// the running epoch.
    pub agent_epoch: u32,
}

/// [`Control::gate`]: the program looks at no bans.
pub const GATE_OFF: u32 = 0;
/// [`Control::gate`], [`Ban::mode`]: the program counts a packet that it would drop, and lets it pass.
pub const GATE_DRY_RUN: u32 = 1;
/// [`Control::gate`], [`Ban::mode`]: the program drops the packets of a ban. Gate and ban must both say so: a ban that
/// was made in a dry run never drops anything, whatever mode the gate has later.
pub const GATE_ENFORCE: u32 = 2;

/// Hash of [`Address`], masked as in [`SOURCES`], to [`Ban`]: banned sources.
pub const BANS: &str = "BANS";
/// How many bans [`BANS`] has room for, unless the agent sets another number.
pub const DEFAULT_MAX_BANS: u32 = 65_536;
/// LPM trie of [`Address`] to [`Ban`]: banned networks, and IPv6 addresses longer than the mask of sources.
pub const BANNED_NETWORKS: &str = "BANNED_NETWORKS";
/// How many networks [`BANNED_NETWORKS`] has room for.
pub const MAX_BANNED_NETWORKS: u32 = 131_072;
/// Hash of [`Address`], masked as in [`SOURCES`], to [`Ban`]: shielded sources, see [`crate::shield`]. It is a map of
/// its own: an attacker with forged addresses can fill it, and pushes no entry out of [`BANS`].
pub const SHIELDS: &str = "SHIELDS";
/// How many sources [`SHIELDS`] has room for, and networks [`SHIELDED_NETWORKS`].
pub const MAX_SHIELDS: u32 = 65_536;
/// LPM trie of [`Address`] to [`Ban`]: shielded networks, and IPv6 addresses longer than the mask of sources.
pub const SHIELDED_NETWORKS: &str = "SHIELDED_NETWORKS";
/// LPM trie of [`Address`] to a number without a meaning: networks that are never dropped, whatever bans there are.
pub const ALLOWED: &str = "ALLOWED";
/// How many networks [`ALLOWED`] has room for.
pub const MAX_ALLOWED: u32 = 16_384;
/// Name of the program that writes the kernel's `jiffies_64` into the first 8 bytes of its frame, in host byte order.
/// Bans end by this clock.
pub const CLOCK_PROGRAM: &str = "scanguard_clock";

/// A ban or a shield. It ends by itself, also when the agent is gone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Ban {
    /// The `jiffies_64` at which it ends. [`NEVER`]: it does not end.
    pub expires: u64,
    /// [`GATE_DRY_RUN`] or [`GATE_ENFORCE`].
    pub mode: u32,
    /// Only the program uses it: the [`Control::allowed_version`] for which the program found that the source is not
    /// allowed.
    pub cleared: u32,
    /// Packets that it dropped, or would have dropped. The number is not exact when several CPUs count at once; the
    /// tally is.
    pub dropped: u64,
    /// `jiffies_64` of the last of these packets, 0 if there was none.
    pub last: u64,
}

/// [`Ban::expires`] of a ban without an end.
pub const NEVER: u64 = u64::MAX;

/// Per-CPU array with one [`TurnedAway`].
pub const TURNED_AWAY: &str = "TURNED_AWAY";
/// Number of examples on each CPU.
pub const TURNED_AWAY_SAMPLES: usize = 8;

/// Targets of the sources that were not admitted to the table, see [`crate::admission`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct TurnedAway {
    /// Probes of such sources on this CPU since the program was loaded.
    pub count: u64,
    /// Some of the last targets.
    pub samples: [Sample; TURNED_AWAY_SAMPLES],
}

/// Ring buffer of [`Wakeup`].
pub const TRIPS: &str = "TRIPS";

/// A source showed something new, after it had shown much that was new.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Wakeup {
    /// The source.
    pub source: Address,
    /// Kernel monotonic time in nanoseconds.
    pub time_ns: u64,
}

/// Ring buffer of samples: a [`SampleHeader`], then the bytes.
pub const SAMPLES: &str = "SAMPLES";
/// Global, `u32`: 0 where nothing is sampled. Then the verifier removes the code for samples from the program.
pub const SAMPLING: &str = "SAMPLING";

/// The header in front of the bytes of a sample in the ring buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct SampleHeader {
    /// The client, masked like all sources.
    pub source: Address,
    /// The address on this host's side.
    pub host: Address,
    /// The port on this host's side, in host byte order.
    pub port: u16,
    /// The client's port, in host byte order.
    pub client_port: u16,
    /// Protocol.
    pub protocol: u8,
    /// Number of [`crate::content::Begins`].
    pub begins: u8,
    /// 1 if the named source is proven to have sent it: the segment's numbers fit the socket of the connection
    /// ([`crate::proof`]). For an answer: 1 if this host sent it.
    pub owned: u8,
    /// 1 if the payload ends with an empty line, as the head of a request does.
    pub ends_head: u8,
    /// Where the payload lies in its stream: bytes before it if `owned` is 1, else the sequence number of its segment.
    /// 0 for a datagram.
    pub position: u64,
    /// Length of the whole payload in bytes.
    pub len: u32,
    /// Explicit padding.
    pub reserved: u32,
}

// The sizes that the maps have. A change here needs a new `VERSION`.
const _: () = assert!(size_of::<Address>() == 16);
const _: () =
    assert!(size_of::<SourceState>() == 32 + 96 + 16 + 16 + 16 + 64 + 24 + 2 * 288 + 4 * 24 + 2 * 24);
const _: () = assert!(size_of::<Control>() == 112 + 8 * 32 + 8 + 8);
const _: () = assert!(size_of::<Running>() == 16);
const _: () = assert!(size_of::<Ban>() == 32);
const _: () = assert!(size_of::<SampleHeader>() == 56);
const _: () = assert!(size_of::<Tally>() == 8 * (26 + 24 + 8 + 4 + 4 + 9 + 6 + 4));

#[cfg(feature = "user")]
mod pod {
    use super::{Ban, Control, Running, ServiceKey, Tally, TurnedAway};

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
    // SAFETY: as above.
    unsafe impl aya::Pod for ServiceKey {}
}
