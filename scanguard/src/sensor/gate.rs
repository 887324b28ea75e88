//! Bans, shields and the allow list, in the maps where the kernel program looks them up.
//!
//! The agent decides elsewhere which sources are banned; this part carries it out. Bans end by the kernel's own clock,
//! in jiffies, so that they end even if the agent has died.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya::{
    maps::{
        HashMap, Map, MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{ProgramError, Xdp},
};
use ipnet::IpNet;
use scanguard_common::{
    abi::{self, Ban},
    address::Address,
};
use serde::{Deserialize, Serialize};

use super::{
    SensorError, missing,
    sys::{batch, run},
    trie,
};
use crate::sources::Sources;

/// Which packets of a source are dropped.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// A ban: its new connections, and packets that no socket wants.
    #[default]
    #[serde(rename = "ban")]
    Full,
    /// A shield: only packets that meet nobody here, see [`scanguard_common::shield`].
    Shield,
}

impl Extent {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Shield];

    /// The name in output and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "ban",
            Self::Shield => "shield",
        }
    }
}

/// The action of the gate on the packets of banned sources.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GateMode {
    /// It looks at no bans.
    #[default]
    Off,
    /// It counts the packets that it would drop.
    DryRun,
    /// It drops packets.
    Enforce,
}

impl GateMode {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Off => abi::GATE_OFF,
            Self::DryRun => abi::GATE_DRY_RUN,
            Self::Enforce => abi::GATE_ENFORCE,
        }
    }
}

/// On what evidence, and for how long, the kernel may hold a source by itself, until the agent has judged it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldTerms {
    /// How many services or addresses a source must have missed for certain within a poll interval.
    pub services: u32,
    /// How long a hold lasts.
    pub lasts: Duration,
    /// How many holds may begin within a poll interval.
    pub most: u32,
}

/// The state of a ban or shield in the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// How much longer it is in force. Nothing: it does not end. Zero: it has ended.
    pub remaining: Option<Duration>,
    /// Whether it drops packets, rather than only counts them.
    pub enforced: bool,
    /// Packets that it dropped, or would have dropped.
    pub dropped: u64,
    /// How long ago the last of these packets came, if there was one.
    pub last: Option<Duration>,
}

/// The maps, and the networks in them.
pub(super) struct Gate {
    bans: HashMap<MapData, [u8; 16], Ban>,
    /// A second handle of this map, for calls that aya does not make.
    bans_fd: OwnedFd,
    networks: LpmTrie<MapData, [u8; 16], Ban>,
    /// As above.
    networks_fd: OwnedFd,
    shields: HashMap<MapData, [u8; 16], Ban>,
    /// As above.
    shields_fd: OwnedFd,
    shielded_networks: LpmTrie<MapData, [u8; 16], Ban>,
    /// As above.
    shielded_networks_fd: OwnedFd,
    allowed: LpmTrie<MapData, [u8; 16], u32>,
    present: BTreeSet<IpNet>,
    /// The networks in both maps of shields.
    shielded: BTreeSet<IpNet>,
    /// How many of the shields one look-up finds.
    exact_shields: usize,
    /// How many of the bans one look-up finds.
    exact: usize,
    allow_list: BTreeSet<IpNet>,
    allowed_version: u32,
    /// How addresses become sources.
    sources: Sources,
    clock: Clock,
}

/// In which map a network or address is banned.
enum Place {
    Exact(Address),
    Network(Key<[u8; 16]>),
}

impl Place {
    fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

impl Gate {
    /// Takes the maps, which may have entries already. `allowed_version` is the last version that the program got.
    pub(super) fn new(
        ebpf: &mut aya::Ebpf,
        sources: Sources,
        allowed_version: u32,
    ) -> Result<Self, SensorError> {
        let mut take = |name| ebpf.take_map(name).ok_or_else(|| missing(name));
        let error = |map| move |error| SensorError::Map { map, error };
        let Map::HashMap(bans) = take(abi::BANS)? else {
            return Err(missing(abi::BANS));
        };
        let Map::LpmTrie(networks) = take(abi::BANNED_NETWORKS)? else {
            return Err(missing(abi::BANNED_NETWORKS));
        };
        let Map::HashMap(shields) = take(abi::SHIELDS)? else {
            return Err(missing(abi::SHIELDS));
        };
        let Map::LpmTrie(shielded_networks) = take(abi::SHIELDED_NETWORKS)? else {
            return Err(missing(abi::SHIELDED_NETWORKS));
        };
        let shielded_networks_fd = descriptor(&shielded_networks, abi::SHIELDED_NETWORKS)?;
        let shielded_networks =
            LpmTrie::try_from(Map::LpmTrie(shielded_networks)).map_err(error(abi::SHIELDED_NETWORKS))?;
        let bans_fd = descriptor(&bans, abi::BANS)?;
        let shields_fd = descriptor(&shields, abi::SHIELDS)?;
        let shields = HashMap::try_from(Map::HashMap(shields)).map_err(error(abi::SHIELDS))?;
        let networks_fd = descriptor(&networks, abi::BANNED_NETWORKS)?;
        let bans = HashMap::try_from(Map::HashMap(bans)).map_err(error(abi::BANS))?;
        let networks = LpmTrie::try_from(Map::LpmTrie(networks)).map_err(error(abi::BANNED_NETWORKS))?;
        let allowed = LpmTrie::try_from(take(abi::ALLOWED)?).map_err(error(abi::ALLOWED))?;
        let mut gate = Self {
            bans,
            bans_fd,
            networks,
            networks_fd,
            shields,
            shields_fd,
            shielded_networks,
            shielded_networks_fd,
            allowed,
            present: BTreeSet::new(),
            shielded: BTreeSet::new(),
            exact_shields: 0,
            exact: 0,
            allow_list: BTreeSet::new(),
            allowed_version: allowed_version.max(1),
            sources,
            clock: Clock::new(ebpf)?,
        };
        gate.find_present()?;
        Ok(gate)
    }

    /// Finds the entries that the maps had at the takeover.
    fn find_present(&mut self) -> Result<(), SensorError> {
        for key in self.bans.keys() {
            let key = key.map_err(|error| SensorError::Map { map: abi::BANS, error })?;
            self.exact += usize::from(self.present.insert(self.exact_net(Address::from_v6(&key))));
        }
        for key in self.shields.keys() {
            let key = key.map_err(|error| SensorError::Map { map: abi::SHIELDS, error })?;
            self.exact_shields += usize::from(self.shielded.insert(self.exact_net(Address::from_v6(&key))));
        }
        for key in self.shielded_networks.keys() {
            let key = key.map_err(|error| SensorError::Map { map: abi::SHIELDED_NETWORKS, error })?;
            self.shielded.extend(trie::net(key.prefix_len(), key.data()));
        }
        for key in self.networks.keys() {
            let key = key.map_err(|error| SensorError::Map { map: abi::BANNED_NETWORKS, error })?;
            self.present.extend(trie::net(key.prefix_len(), key.data()));
        }
        for key in self.allowed.keys() {
            let key = key.map_err(|error| SensorError::Map { map: abi::ALLOWED, error })?;
            self.allow_list.extend(trie::net(key.prefix_len(), key.data()));
        }
        Ok(())
    }

    fn exact_net(&self, address: Address) -> IpNet {
        self.sources.net(&address)
    }

    /// One look-up finds IPv4 addresses, and IPv6 networks of the length of the mask. All others need a trie, and so do
    /// IPv6 networks whose addresses count for IPv4 sources.
    fn place(&self, banned: IpNet) -> Place {
        let address = Address::from(banned.network());
        if is_source(&self.sources, banned) {
            Place::Exact(address)
        } else {
            Place::Network(trie::key(banned.network(), banned.prefix_len()))
        }
    }

    /// Sets how addresses become sources. Bans whose place depends on it are moved; shields from what is no source any
    /// more end.
    pub(super) fn set_sources(&mut self, sources: &Sources) -> Result<(), SensorError> {
        if *sources == self.sources {
            return Ok(());
        }
        let moves = |net: &IpNet| is_source(&self.sources, *net) != is_source(sources, *net);
        let moved: Vec<_> = self.present.iter().copied().filter(moves).collect();
        let shields: Vec<_> = self.shielded.iter().copied().filter(moves).collect();
        let mut bans = Vec::with_capacity(moved.len());
        for net in moved {
            let ban = self.get(&self.place(net))?;
            self.unban(net)?;
            bans.extend(ban.map(|ban| (net, ban)));
        }
        for net in shields {
            self.unshield(net)?;
        }
        self.sources = sources.clone();
        bans.into_iter().try_for_each(|(net, ban)| self.put(net, ban))
    }

    /// Makes or changes bans. A ban that has not ended keeps its counts, except for packets that come meanwhile. There
    /// is one call for each of the two maps, since feeds have a hundred thousand networks.
    ///
    /// # Errors
    /// The first ban that a map refused. The bans before it in its map, and all of the other map, are made.
    pub(super) fn ban_all(
        &mut self,
        bans: &mut dyn Iterator<Item = (IpNet, Option<Duration>, bool)>,
    ) -> Result<(), SensorError> {
        let now = self.clock.now()?;
        let (mut exact, mut networks) = (Entries::new(), Entries::new());
        for (banned, lasts, enforced) in bans {
            let banned = banned.trunc();
            let place = self.place(banned);
            let before = if self.present.contains(&banned) { self.get(&place)? } else { None };
            let ban = self.clock.ban(lasts, enforced, before, now);
            match place {
                Place::Exact(address) => exact.push(banned, address.bytes(), ban),
                Place::Network(key) => networks.push(banned, key, ban),
            }
        }
        let made = exact.write(self.bans_fd.as_fd(), abi::BANS);
        let before = self.present.len();
        self.present.extend(made.0);
        self.exact += self.present.len() - before;
        let made_too = networks.write(self.networks_fd.as_fd(), abi::BANNED_NETWORKS);
        self.present.extend(made_too.0);
        made.1.and(made_too.1)
    }

    /// Makes or changes shields, as [`Self::ban_all`] does for bans.
    ///
    /// # Errors
    /// As there.
    pub(super) fn shield_all(
        &mut self,
        shields: &mut dyn Iterator<Item = (IpNet, Option<Duration>, bool)>,
    ) -> Result<(), SensorError> {
        let now = self.clock.now()?;
        let (mut exact, mut networks) = (Entries::new(), Entries::new());
        for (shielded, lasts, enforced) in shields {
            let shielded = shielded.trunc();
            let place = self.place(shielded);
            let before = if self.shielded.contains(&shielded) { self.get_shield(&place)? } else { None };
            let shield = self.clock.ban(lasts, enforced, before, now);
            match place {
                Place::Exact(address) => exact.push(shielded, address.bytes(), shield),
                Place::Network(key) => networks.push(shielded, key, shield),
            }
        }
        let made = exact.write(self.shields_fd.as_fd(), abi::SHIELDS);
        let before = self.shielded.len();
        self.shielded.extend(made.0);
        self.exact_shields += self.shielded.len() - before;
        let made_too = networks.write(self.shielded_networks_fd.as_fd(), abi::SHIELDED_NETWORKS);
        self.shielded.extend(made_too.0);
        made.1.and(made_too.1)
    }

    fn get_shield(&self, place: &Place) -> Result<Option<Ban>, SensorError> {
        match place {
            Place::Exact(address) => found(abi::SHIELDS, self.shields.get(&address.bytes(), 0)),
            Place::Network(key) => found(abi::SHIELDED_NETWORKS, self.shielded_networks.get(key, 0)),
        }
    }

    /// Whether there was such a shield.
    pub(super) fn unshield(&mut self, shielded: IpNet) -> Result<bool, SensorError> {
        let shielded = shielded.trunc();
        let place = self.place(shielded);
        let was_there = match &place {
            Place::Exact(address) => removed(abi::SHIELDS, self.shields.remove(&address.bytes())),
            Place::Network(key) => removed(abi::SHIELDED_NETWORKS, self.shielded_networks.remove(key)),
        }?;
        self.exact_shields -= usize::from(self.shielded.remove(&shielded) && place.is_exact());
        Ok(was_there)
    }

    /// The shields of exactly these networks or addresses, if there are any, all at one moment.
    pub(super) fn shield_standings(&self, shielded: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        let now = self.clock.now()?;
        let mut standings = Vec::with_capacity(shielded.len());
        for net in shielded {
            let shield = self.get_shield(&self.place(net.trunc()))?;
            standings.extend(shield.map(|shield| (*net, self.clock.standing(&shield, now))));
        }
        Ok(standings)
    }

    /// All shields in the maps, including ended ones.
    pub(super) fn shielded(&self) -> impl Iterator<Item = IpNet> {
        self.shielded.iter().copied()
    }

    /// Takes over a ban from other maps, with its end and its counts.
    pub(super) fn restore(&mut self, banned: IpNet, ban: Ban) -> Result<(), SensorError> {
        // A version of another allow list means nothing for this one.
        self.put(banned, Ban { cleared: 0, ..ban })
    }

    fn put(&mut self, banned: IpNet, ban: Ban) -> Result<(), SensorError> {
        let banned = banned.trunc();
        let place = self.place(banned);
        match &place {
            Place::Exact(address) => self
                .bans
                .insert(address.bytes(), ban, 0)
                .map_err(|error| SensorError::Map { map: abi::BANS, error })?,
            Place::Network(key) => self
                .networks
                .insert(key, ban, 0)
                .map_err(|error| SensorError::Map { map: abi::BANNED_NETWORKS, error })?,
        }
        self.exact += usize::from(self.present.insert(banned) && place.is_exact());
        Ok(())
    }

    fn get(&self, place: &Place) -> Result<Option<Ban>, SensorError> {
        match place {
            Place::Exact(address) => found(abi::BANS, self.bans.get(&address.bytes(), 0)),
            Place::Network(key) => found(abi::BANNED_NETWORKS, self.networks.get(key, 0)),
        }
    }

    /// Whether there was such a ban.
    pub(super) fn unban(&mut self, banned: IpNet) -> Result<bool, SensorError> {
        let banned = banned.trunc();
        let place = self.place(banned);
        let was_there = match &place {
            Place::Exact(address) => removed(abi::BANS, self.bans.remove(&address.bytes())),
            Place::Network(key) => removed(abi::BANNED_NETWORKS, self.networks.remove(key)),
        }?;
        self.exact -= usize::from(self.present.remove(&banned) && place.is_exact());
        Ok(was_there)
    }

    /// The ban of exactly this network or address.
    pub(super) fn standing(&self, banned: IpNet) -> Result<Option<Standing>, SensorError> {
        Ok(self.standings(&[banned])?.pop().map(|(_, standing)| standing))
    }

    /// The bans of exactly these networks or addresses, if there are any, all at one moment.
    pub(super) fn standings(&self, banned: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        let now = self.clock.now()?;
        let mut standings = Vec::with_capacity(banned.len());
        for net in banned {
            let ban = self.get(&self.place(net.trunc()))?;
            standings.extend(ban.map(|ban| (*net, self.clock.standing(&ban, now))));
        }
        Ok(standings)
    }

    /// All bans in the maps, including ended ones.
    pub(super) fn present(&self) -> impl Iterator<Item = IpNet> {
        self.present.iter().copied()
    }

    /// The networks that are never dropped, as the map has them.
    pub(super) fn allowed(&self) -> &BTreeSet<IpNet> {
        &self.allow_list
    }

    /// Makes the allow list have exactly these networks, as far as the map accepts them. Returns the first error, if
    /// there is one. Removals come last, so that a network that is in both lists is never dropped in between.
    pub(super) fn set_allowed(&mut self, wanted: &BTreeSet<IpNet>) -> Result<(), SensorError> {
        let mut result = Ok(());
        let (new, gone): (Vec<IpNet>, Vec<IpNet>) =
            wanted.symmetric_difference(&self.allow_list).copied().partition(|net| wanted.contains(net));
        for net in new {
            match self.allowed.insert(&trie::key(net.network(), net.prefix_len()), 1, 0) {
                Ok(()) => {
                    self.allow_list.insert(net);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        for net in gone {
            match self.allowed.remove(&trie::key(net.network(), net.prefix_len())) {
                Ok(()) => {
                    self.allow_list.remove(&net);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        // This also applies if only a part was accepted: no ban may use an earlier look-up of the allow list.
        self.allowed_version = self.allowed_version.wrapping_add(1).max(1);
        result.map_err(|error| SensorError::Map { map: abi::ALLOWED, error })
    }

    /// This duration in jiffies, rounded up.
    pub(super) fn ticks(&self, time: Duration) -> u64 {
        self.clock.ticks(time)
    }

    /// Writes what the program must know about the maps.
    pub(super) fn describe(&self, control: &mut abi::Control) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        control.bans = count(self.exact);
        control.banned_networks = count(self.present.len() - self.exact);
        control.shields = count(self.exact_shields);
        control.shielded_networks = count(self.shielded.len() - self.exact_shields);
        control.allowed_version = self.allowed_version;
    }
}

/// Whether a network is that of one source, as the program looks it up.
fn is_source(sources: &Sources, net: IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.prefix_len() == 32,
        IpNet::V6(v6) => v6.prefix_len() == sources.ipv6_prefix() && !sources.has_embedded(net),
    }
}

/// A second descriptor of a map.
fn descriptor(map: &MapData, name: &'static str) -> Result<OwnedFd, SensorError> {
    let descriptor = map.fd().as_fd().try_clone_to_owned();
    descriptor.map_err(|error| SensorError::Call { call: "fcntl", map: name, error })
}

/// Entries to write into a map, with the networks of their bans.
struct Entries<K> {
    banned: Vec<IpNet>,
    keys: Vec<K>,
    bans: Vec<Ban>,
}

impl<K: aya::Pod> Entries<K> {
    const fn new() -> Self {
        Self { banned: Vec::new(), keys: Vec::new(), bans: Vec::new() }
    }

    fn push(&mut self, banned: IpNet, key: K, ban: Ban) {
        self.banned.push(banned);
        self.keys.push(key);
        self.bans.push(ban);
    }

    /// Returns the networks whose bans were made, and the error if not all were.
    fn write(mut self, fd: BorrowedFd<'_>, map: &'static str) -> (Vec<IpNet>, Result<(), SensorError>) {
        let result = batch::write(fd, &self.keys, &self.bans).map_err(|(made, error)| {
            self.banned.truncate(made);
            SensorError::Call { call: "BPF_MAP_UPDATE_BATCH", map, error }
        });
        (self.banned, result)
    }
}

/// The result of a look-up, if the entry exists.
fn found(map: &'static str, found: Result<Ban, MapError>) -> Result<Option<Ban>, SensorError> {
    match found {
        Ok(ban) => Ok(Some(ban)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(SensorError::Map { map, error }),
    }
}

/// Whether the removed entry existed.
fn removed(map: &'static str, removed: Result<(), MapError>) -> Result<bool, SensorError> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(SensorError::Map { map, error }),
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// The kernel's jiffies.
pub(super) struct Clock {
    program: OwnedFd,
    tick: Duration,
}

impl Clock {
    pub(super) fn new(ebpf: &aya::Ebpf) -> Result<Self, SensorError> {
        let program = || -> Result<OwnedFd, ProgramError> {
            let program = ebpf.program(abi::CLOCK_PROGRAM).ok_or(ProgramError::NotLoaded)?;
            let program: &Xdp = program.try_into()?;
            program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
        };
        Ok(Self { program: program().map_err(|error| SensorError::Program { error })?, tick: tick() })
    }

    pub(super) fn now(&self) -> Result<u64, SensorError> {
        let mut frame = [0u8; *super::FRAME_LENGTHS.start()];
        let length = frame.len();
        run::run_and_read(self.program.as_fd(), &mut frame)
            .map_err(|error| SensorError::Run { length, error })?;
        Ok(frame.first_chunk().map_or(0, |ticks| u64::from_ne_bytes(*ticks)))
    }

    /// Rounded up: a ban lasts at least as long as it should.
    pub(super) fn ticks(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos().div_ceil(self.tick.as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    pub(super) fn time(&self, ticks: u64) -> Duration {
        let nanoseconds = u128::from(ticks).saturating_mul(self.tick.as_nanos());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// A ban in the kernel's format. It keeps the counts of the ban before it, unless that has ended.
    fn ban(&self, lasts: Option<Duration>, enforced: bool, before: Option<Ban>, now: u64) -> Ban {
        Ban {
            expires: lasts.map_or(abi::NEVER, |lasts| now.saturating_add(self.ticks(lasts))),
            mode: if enforced { abi::GATE_ENFORCE } else { abi::GATE_DRY_RUN },
            ..before.filter(|before| before.expires > now).unwrap_or_default()
        }
    }

    fn standing(&self, ban: &Ban, now: u64) -> Standing {
        Standing {
            remaining: (ban.expires != abi::NEVER).then(|| self.time(ban.expires.saturating_sub(now))),
            enforced: ban.mode == abi::GATE_ENFORCE,
            dropped: ban.dropped,
            last: (ban.last != 0).then(|| self.time(now.saturating_sub(ban.last))),
        }
    }
}

/// Length of a jiffy: the coarse clock moves once in each.
pub(super) fn tick() -> Duration {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local variable of the type that the call writes.
    let failed = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) } != 0;
    let tick =
        Duration::new(resolution.tv_sec.try_into().unwrap_or(0), resolution.tv_nsec.try_into().unwrap_or(0));
    // It cannot fail with this clock. 100 Hz is the longest tick of Linux.
    if failed || tick.is_zero() { Duration::from_millis(10) } else { tick }
}
