//! The live sensor: reads the maps of the loaded program.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd as _,
    time::Duration,
};

use aya::maps::{Array, Map, MapData, PerCpuArray, lpm_trie::LpmTrie};
use ipnet::IpNet;
use scanguard_common::{
    abi, account::SourceState, address::Address, epoch, on_link::OnLink, outcome::PortRange, tally::Tally,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{clock::monotonic, content::sampling::Budgets, network::Local, sources::Sources};

use super::{
    Occupancy, Poll, Sensor, SensorError, TurnedAway, Visit, Whole,
    census::Census,
    changes::{Changes, Found},
    gate::{Gate, GateMode, HoldTerms, Standing},
    home::Home,
    macs::Macs,
    missing,
    pins::{MetaMap, Taken},
    sys::batch::{self, BatchReader, Place},
    translators::Translators,
};

/// How many entries one read takes. A test read 60,000 entries in 11 ms this way, and in 55 ms one by one.
const BATCH: usize = 4096;

/// For how long an address counts as live after it answered: hosts that sleep at night are up again by then.
const LIVE_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long a service without a socket counts as published after it answered. After that, the first client's probe
/// does not count as met. That alone makes no client a scanner.
const PUBLISHED_AGE: Duration = Duration::from_secs(60 * 60);

/// For how long a flow that this host used counts as used: upstreams and resolvers answer later than this host waits.
const USED_AGE: Duration = Duration::from_secs(60 * 60);
/// For how long a listener may be there for one connection only. FTP servers wait about a minute for theirs.
const YOUNG_AGE: Duration = Duration::from_secs(2 * 60);

/// After how long without a poll, at least, the program assumes that the agent is gone and moves the epoch on by
/// itself. It is as long as the watchdog of the service waits. The rules that look at a minute see the work of two
/// such epochs as one burst.
const EPOCH_LASTS: Duration = Duration::from_secs(30);
/// As above, in polls.
const EPOCH_POLLS: u32 = 4;

/// The maps of a loaded program.
pub struct KernelSensor {
    sources: MapData,
    tally: PerCpuArray<MapData, Tally>,
    control: Array<MapData, abi::Control>,
    running: Array<MapData, abi::Running>,
    turned_away: PerCpuArray<MapData, abi::TurnedAway>,
    home: Home,
    translators: Translators,
    macs: Macs,
    gate: Gate,
    live: Noted<Address>,
    published: Noted<abi::ServiceKey>,
    forgotten: Array<MapData, u32>,
    /// Services that this agent published.
    own_published: BTreeSet<abi::ServiceKey>,
    reader: BatchReader<Address, SourceState>,
    changes: Changes,
    census: Census,
    /// The position of the census.
    counted: Place,
    /// Sources that the agent removed from the table.
    removed: u64,
    /// The settings that the program has now.
    settings: abi::Control,
    /// On what terms the program holds sources by itself.
    hold: Option<HoldTerms>,
    /// Notes for the next agent.
    meta: Option<MetaMap>,
    /// Memory that is kept from one poll to the next.
    epoch_length: Duration,
    /// When an earlier agent last read the sources that are in the table.
    read_before: Option<Duration>,
    /// The epoch that was running at the last read, by this agent or an earlier one. Everything before it is known.
    stopped: u32,
    /// Whether the program that counts connections is attached.
    connections_attached: bool,
}

/// How long an epoch lasts at most if polls come at this interval.
fn longest_epoch(poll_interval: Duration) -> Duration {
    EPOCH_LASTS.max(poll_interval.saturating_mul(EPOCH_POLLS))
}

/// A map from something that answered to the epoch of its last answer.
struct Noted<K> {
    map: MapData,
    name: &'static str,
    reader: BatchReader<K, u32>,
}

impl KernelSensor {
    /// Takes the maps out of the loaded program, which keeps this many bits of an IPv6 source. If an earlier agent
    /// used the maps, its epochs, bans and gate mode stay.
    ///
    /// # Errors
    /// A map is missing or has another type: the object belongs to another version.
    pub fn new(ebpf: &mut aya::Ebpf, ipv6_prefix: u8) -> Result<Self, SensorError> {
        let map_error = |map| move |error| SensorError::Map { map, error };
        let Map::LruHashMap(sources) = take(ebpf, abi::SOURCES)? else {
            return Err(missing(abi::SOURCES));
        };
        let tally = PerCpuArray::try_from(take(ebpf, abi::TALLY)?).map_err(map_error(abi::TALLY))?;
        let control: Array<_, abi::Control> =
            Array::try_from(take(ebpf, abi::CONTROL)?).map_err(map_error(abi::CONTROL))?;
        let settings = control.get(&0, 0).map_err(map_error(abi::CONTROL))?;
        let running = Array::try_from(take(ebpf, abi::RUNNING)?).map_err(map_error(abi::RUNNING))?;
        let is_new = settings.epoch == 0;
        let reader = BatchReader::new(BATCH).map_err(|error| SensorError::Call {
            call: "reading",
            map: abi::SOURCES,
            error,
        })?;
        let home = LpmTrie::try_from(take(ebpf, abi::HOME)?).map_err(map_error(abi::HOME))?;
        let first = abi::Control {
            epoch: 1,
            // Until the agent sets it, ports without a socket may belong to another host.
            forwards: 1,
            // They count for ever, until the length of an epoch is known.
            live_epochs: i32::MAX.cast_unsigned(),
            published_epochs: i32::MAX.cast_unsigned(),
            used_epochs: i32::MAX.cast_unsigned(),
            ports: PortRange::DEFAULT,
            sees_leaving: 1,
            free_entries: u32::MAX,
            ..abi::Control::default()
        };
        let turned_away =
            PerCpuArray::try_from(take(ebpf, abi::TURNED_AWAY)?).map_err(map_error(abi::TURNED_AWAY))?;
        let capacity = sources.info().map_err(map_error(abi::SOURCES))?.max_entries();
        let translators = Translators::new(ebpf)?;
        let sources_before = Sources::new(ipv6_prefix, &translators.present());
        let mut sensor = Self {
            turned_away,
            changes: Changes::new(ebpf, is_new)?,
            census: Census::new(capacity),
            counted: Place::default(),
            removed: 0,
            sources,
            tally,
            control,
            running,
            home: Home::new(home)?,
            translators,
            macs: Macs::new(ebpf)?,
            live: Noted::new(ebpf, abi::LIVE)?,
            published: Noted::new(ebpf, abi::PUBLISHED)?,
            forgotten: Array::try_from(take(ebpf, abi::FORGOTTEN)?).map_err(map_error(abi::FORGOTTEN))?,
            own_published: BTreeSet::new(),
            reader,
            gate: Gate::new(ebpf, sources_before, settings.allowed_version)?,
            settings: if is_new { first } else { settings },
            hold: None,
            epoch_length: Duration::from_secs(1),
            meta: None,
            read_before: None,
            stopped: if is_new { first.epoch } else { settings.epoch },
            connections_attached: false,
        };
        sensor.tell(|_| {})?;
        Ok(sensor)
    }

    /// Continues where the earlier agent ended: takes its copied bans, its allow list and the mode of its gate. From
    /// now on it notes what the next agent needs. Returns the bans for which there was no room.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn resume(&mut self, taken: &mut Taken) -> Result<usize, SensorError> {
        self.meta = taken.meta.take();
        self.read_before = taken.polled;
        self.stopped = taken.stopped.unwrap_or(self.settings.epoch);
        let mut lost = 0;
        if let Some(inherited) = taken.inherited.take() {
            self.gate.set_allowed(&inherited.allowed)?;
            for (banned, ban) in inherited.bans {
                lost += usize::from(self.gate.restore(banned, ban).is_err());
            }
            (self.settings.gate, self.settings.drop_all) = (inherited.gate, inherited.drop_all);
        }
        self.tell(|_| {})?;
        Ok(lost)
    }

    /// Whether the program ran without an agent for longer than an epoch lasts, before this agent took over. Then
    /// nobody knows when it took the waiting samples. This stays true until [`Self::read_before`]. An epoch lasts as
    /// long as the interval between polls.
    pub fn was_alone(&self, poll_interval: Duration) -> bool {
        let alone = self.read_before.map(|before| monotonic().saturating_sub(before));
        alone.is_some_and(|alone| alone >= longest_epoch(poll_interval))
    }

    /// Passes on every source that an earlier agent has read, with its present state and the first epoch whose
    /// distinct things are new. Later sources are new to this agent as well; the next poll passes them on. If the
    /// program has moved the epoch on, this passes on all sources, since nobody knows when their counted activity
    /// happened. Returns the result of such a poll, but does not end an epoch. Returns nothing if nothing was taken
    /// over.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn read_before(&mut self, each: &mut Visit<'_>) -> Result<Option<Poll>, SensorError> {
        let Some(before) = self.read_before.take() else {
            return Ok(None);
        };
        self.catch_up()?;
        let (stopped, running) = (self.stopped, self.settings.epoch);
        let read = self.reader.read(self.sources.fd().as_fd(), |source, state| {
            if stopped != running || Duration::from_nanos(state.born_ns) < before {
                each(source, state, epoch::unread(state.epoch, stopped, running));
            }
        });
        let entries = read.map_err(|error| call_failed(abi::SOURCES, error))?;
        let tally = self.read_tally()?;
        self.census.know(entries, tally.inserted, self.removed);
        Ok(Some(Poll { tally, entries, whole: Some(Whole::Takeover) }))
    }

    /// Passes on every source of the whole table that may have done something since the epoch before this one, or
    /// since the last epoch that was read.
    fn read_whole(&mut self, ended_epoch: u32, each: &mut Visit<'_>) -> Result<(), SensorError> {
        let stopped = self.stopped;
        let oldest = stopped.wrapping_sub(1);
        let newest = ended_epoch.wrapping_add(1).wrapping_sub(oldest);
        let read = self.reader.read(self.sources.fd().as_fd(), |source, state| {
            if state.epoch.wrapping_sub(oldest) <= newest {
                each(source, state, epoch::unread(state.epoch, stopped, ended_epoch));
            }
        });
        read.map(drop).map_err(|error| call_failed(abi::SOURCES, error))
    }

    /// Counts a part of the table. Returns the number of entries.
    fn count_entries(&mut self, inserted: u64) -> Result<u64, SensorError> {
        let mut part = 0;
        loop {
            let (keys, _) = self
                .reader
                .next(self.sources.fd().as_fd(), &mut self.counted)
                .map_err(|error| call_failed(abi::SOURCES, error))?;
            part += keys.len() as u64;
            let is_last = self.counted == Place::default();
            if is_last || part >= self.census.part() {
                return Ok(self.census.count(part, is_last, inserted, self.removed));
            }
        }
    }

    /// Sets whether the program that counts connections is attached ([`super::connections`]). At first it is not.
    pub fn set_connections_attached(&mut self, attached: bool) {
        self.connections_attached = attached;
    }

    /// Whether that program is attached.
    pub fn connections_attached(&self) -> bool {
        self.connections_attached
    }

    /// Tells the program this host's addresses, and whether the host forwards packets.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_local(&mut self, local: &Local) -> Result<(), SensorError> {
        self.home.set(local)?;
        self.tell(|control| {
            control.forwards = u32::from(local.forwards);
            control.home_version = control.home_version.wrapping_add(1);
        })
    }

    /// Makes exactly these services of this host open, though the program does not find their sockets; beside those that
    /// it sees answer by itself. To be repeated within an hour.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn publish(&mut self, services: &BTreeSet<abi::ServiceKey>) -> Result<(), SensorError> {
        let map = self.published.map.fd().as_fd();
        let failed = |call, error| SensorError::Call { call, map: abi::PUBLISHED, error };
        let keys: Vec<_> = services.iter().copied().collect();
        let epochs = vec![self.settings.epoch; keys.len()];
        batch::write(map, &keys, &epochs).map_err(|(_, error)| failed("BPF_MAP_UPDATE_BATCH", error))?;
        for gone in self.own_published.difference(services) {
            batch::take::<_, u32>(map, gone)
                .map_err(|error| failed("BPF_MAP_LOOKUP_AND_DELETE_ELEM", error))?;
        }
        if self.own_published == *services {
            return Ok(());
        }
        self.own_published.clone_from(services);
        // If the program counts at the same moment, one of both is enough.
        let error = |error| SensorError::Map { map: abi::FORGOTTEN, error };
        let times = self.forgotten.get(&0, 0).map_err(error)?;
        self.forgotten.set(0, times.wrapping_add(1), 0).map_err(error)
    }

    /// Tells the program from which ports this host calls others.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_ports(&mut self, ports: PortRange) -> Result<(), SensorError> {
        self.tell(|control| control.ports = ports)
    }

    /// Tells the program whether it sees what leaves by all of its interfaces.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError> {
        if self.settings.sees_leaving == u32::from(sees) {
            return Ok(());
        }
        self.tell(|control| control.sees_leaving = u32::from(sees))
    }

    /// Tells the program the MAC addresses of its interfaces, by their numbers.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_macs(&mut self, macs: &BTreeMap<u32, [u8; 6]>) -> Result<(), SensorError> {
        self.macs.set(macs)
    }

    /// Tells the program in which prefixes each address is a source.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_on_link(&mut self, on_link: OnLink) -> Result<(), SensorError> {
        if self.settings.on_link == on_link {
            return Ok(());
        }
        self.tell(|control| control.on_link = on_link)
    }

    /// The program wakes the agent for a source at these numbers of novelties, and from the least of them on each time
    /// that the number has doubled. None: never.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_wakeup(&mut self, novelties: &[u32]) -> Result<(), SensorError> {
        self.tell(|control| {
            control.wakeup = novelties.iter().copied().min().unwrap_or(0);
            let bits = novelties.iter().map(|number| 1u64.checked_shl(*number).unwrap_or(0));
            control.wakeup_at = bits.fold(0, |all, bit| all | bit);
        })
    }

    /// Sets how addresses become sources. Bans stay, and are found where the program now looks for them.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_sources(&mut self, sources: &Sources) -> Result<(), SensorError> {
        // The program must not look at the prefixes by a filter that does not fit, nor must the filter come late.
        self.translators.set(sources.translators())?;
        self.gate.set_sources(sources)?;
        self.tell(|control| control.translators = sources.filter().bits())
    }

    /// Sets the networks that are routed to this host. [`Self::set_local`] then tells the program.
    pub fn set_routed(&mut self, routed: &[IpNet]) {
        self.home.set_routed(routed);
    }

    /// Tells the program for how many epochs of this length its notes of answers are valid.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_epoch_length(&mut self, length: Duration) -> Result<(), SensorError> {
        self.epoch_length = length;
        let epochs = |age: Duration| {
            u32::try_from(age.as_nanos().div_ceil(length.as_nanos().max(1)))
                .unwrap_or(u32::MAX)
                .min(i32::MAX.cast_unsigned())
        };
        self.tell(|control| {
            (control.live_epochs, control.published_epochs) = (epochs(LIVE_AGE), epochs(PUBLISHED_AGE));
            (control.used_epochs, control.young_epochs) = (epochs(USED_AGE), epochs(YOUNG_AGE));
        })?;
        self.set_longest_epoch(longest_epoch(length))
    }

    /// Sets after how long without a poll the program moves the epoch on by itself, see [`abi::Control::epoch_ticks`].
    /// [`Self::set_epoch_length`] sets it, too.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_longest_epoch(&mut self, longest: Duration) -> Result<(), SensorError> {
        let ticks = u32::try_from(self.gate.ticks(longest)).unwrap_or(u32::MAX);
        self.tell(|control| control.epoch_ticks = ticks)
    }

    /// Sets how many samples are taken: of one source, and on each CPU. At first none are.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_samples(&mut self, budgets: Budgets) -> Result<(), SensorError> {
        let Budgets { source, cpu } = budgets;
        self.tell(|control| {
            (control.source_samples, control.cpu_samples) = (source.samples, cpu.samples);
            control.sample_epochs = source.epochs;
        })
    }

    /// Sets what the gate does with banned sources, and whether it drops all of their packets.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        self.tell(|control| {
            control.gate = mode.number();
            control.drop_all = u32::from(drop_all);
        })
    }

    /// Sets on what terms the program holds sources by itself until the agent has judged them. Nothing: it holds none.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_hold(&mut self, hold: Option<HoldTerms>) -> Result<(), SensorError> {
        self.hold = hold;
        self.tell(|_| {})
    }

    /// Makes or changes the ban of a network or address: for how long (nothing: without an end), and whether it drops
    /// packets (`enforced`) or counts those that it would drop. A ban that is in force keeps its counts.
    ///
    /// # Errors
    /// The map is full or could not be changed.
    pub fn ban(&mut self, banned: IpNet, lasts: Option<Duration>, enforced: bool) -> Result<(), SensorError> {
        self.ban_all(&mut std::iter::once((banned, lasts, enforced)))
    }

    /// As [`Self::ban`], for many: network, duration, and whether it drops packets.
    ///
    /// # Errors
    /// A map is full or could not be changed. The bans before the failed one in its map, and those in the other map,
    /// are made.
    pub fn ban_all(
        &mut self,
        bans: &mut dyn Iterator<Item = (IpNet, Option<Duration>, bool)>,
    ) -> Result<(), SensorError> {
        let result = self.gate.ban_all(bans);
        self.tell(|_| {})?;
        result
    }

    /// As [`Self::unban`], for many.
    ///
    /// # Errors
    /// A map could not be changed. The bans before it have ended.
    pub fn unban_all(&mut self, mut banned: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        let gate = &mut self.gate;
        let result = (&mut banned).try_for_each(|banned| gate.unban(banned).map(drop));
        self.tell(|_| {})?;
        result
    }

    /// Ends the ban of exactly this network or address. Returns whether there was one.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn unban(&mut self, banned: IpNet) -> Result<bool, SensorError> {
        let was_banned = self.gate.unban(banned)?;
        self.tell(|_| {})?;
        Ok(was_banned)
    }

    /// The ban of exactly this network or address, if there is one. An ended ban stays until [`Self::unban`].
    ///
    /// # Errors
    /// The map could not be read.
    pub fn standing(&self, banned: IpNet) -> Result<Option<Standing>, SensorError> {
        self.gate.standing(banned)
    }

    /// As [`Self::standing`], for many, all at one moment. Those without a ban are left out.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn standings(&self, banned: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        self.gate.standings(banned)
    }

    /// All networks in the maps of bans, including those with an ended ban.
    pub fn banned(&self) -> impl Iterator<Item = IpNet> {
        self.gate.present()
    }

    /// Makes or changes shields: source, duration (nothing: without an end), and whether to drop packets or to count
    /// those that it would drop.
    ///
    /// # Errors
    /// The map is full or could not be changed. The shields before the failed one are made.
    pub fn shield_all(
        &mut self,
        shields: &mut dyn Iterator<Item = (IpNet, Option<Duration>, bool)>,
    ) -> Result<(), SensorError> {
        let result = self.gate.shield_all(shields);
        self.tell(|_| {})?;
        result
    }

    /// Ends shields. Missing ones are ignored.
    ///
    /// # Errors
    /// The map could not be changed. The shields before it have ended.
    pub fn unshield_all(&mut self, mut shielded: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        let gate = &mut self.gate;
        let result = (&mut shielded).try_for_each(|shielded| gate.unshield(shielded).map(drop));
        self.tell(|_| {})?;
        result
    }

    /// The shields of exactly these sources, all at one moment. Those without a shield are left out.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn shield_standings(&self, shielded: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        self.gate.shield_standings(shielded)
    }

    /// All sources in the map of shields, including those with an ended shield.
    pub fn shielded(&self) -> impl Iterator<Item = IpNet> {
        self.gate.shielded()
    }

    /// Makes exactly these networks the ones that are never dropped.
    ///
    /// # Errors
    /// The map is full or could not be changed. The list may then have only a part of them.
    pub fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError> {
        let set = self.gate.set_allowed(allowed);
        self.tell(|_| {}).and(set)
    }

    /// The networks that are never dropped, as the map has them. Until the list is set, it is that of the earlier
    /// agent.
    pub fn allowed(&self) -> &BTreeSet<IpNet> {
        self.gate.allowed()
    }

    /// Sets how many new sources enter the table in an epoch on each CPU with their first probe. After that, sources
    /// enter with their second. At first all enter.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_free_entries(&mut self, free_entries: u32) -> Result<(), SensorError> {
        self.tell(|control| control.free_entries = free_entries)
    }

    /// How full the maps with notes of answers are.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn occupancy(&mut self) -> Result<Occupancy, SensorError> {
        Ok(Occupancy { live: self.live.len()?, published: self.published.len()? })
    }

    /// Changes the program's settings.
    fn tell(&mut self, change: impl FnOnce(&mut abi::Control)) -> Result<(), SensorError> {
        change(&mut self.settings);
        self.gate.describe(&mut self.settings);
        self.describe_reflex();
        self.control
            .set(0, self.settings, 0)
            .map_err(|error| SensorError::Map { map: abi::CONTROL, error })?;
        if let Some(meta) = &mut self.meta {
            meta.note_settings(&self.settings);
        }
        Ok(())
    }

    /// Takes the running epoch from the program, which may have moved on since the agent set it.
    fn catch_up(&mut self) -> Result<(), SensorError> {
        let running = self.running.get(&0, 0);
        let running = running.map_err(|error| SensorError::Map { map: abi::RUNNING, error })?;
        if running.agent_epoch == self.settings.epoch && epoch::is_after(running.epoch, running.agent_epoch) {
            self.settings.epoch = running.epoch;
        }
        Ok(())
    }

    fn describe_reflex(&mut self) {
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let Some(HoldTerms { services, lasts, most }) = self.hold else {
            self.settings.hold_from = 0;
            return;
        };
        self.settings.hold_from = services;
        self.settings.hold_ticks = number(self.gate.ticks(lasts));
        self.settings.max_holds = most;
    }

    fn read_tally(&self) -> Result<Tally, SensorError> {
        let per_cpu = self.tally.get(&0, 0).map_err(|error| SensorError::Map { map: abi::TALLY, error })?;
        let mut sum = Tally::ZERO;
        for tally in per_cpu.iter() {
            sum.add(tally);
        }
        Ok(sum)
    }
}

impl<K: FromBytes + IntoBytes + Immutable> Noted<K> {
    fn new(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, SensorError> {
        let Map::LruHashMap(map) = take(ebpf, name)? else {
            return Err(missing(name));
        };
        let reader = BatchReader::new(BATCH).map_err(|error| call_failed(name, error))?;
        Ok(Self { map, name, reader })
    }

    fn len(&mut self) -> Result<u64, SensorError> {
        let map = self.map.fd().as_fd();
        self.reader.read(map, |_, _| {}).map_err(|error| call_failed(self.name, error))
    }
}

fn call_failed(map: &'static str, error: std::io::Error) -> SensorError {
    SensorError::Call { call: "BPF_MAP_LOOKUP_BATCH", map, error }
}

fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Map, SensorError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

impl Sensor for KernelSensor {
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        self.catch_up()?;
        let (ended_epoch, stopped) = (self.settings.epoch, self.stopped);
        let before = self.changes.count()?;
        self.tell(|control| control.epoch = ended_epoch.wrapping_add(1))?;
        // From here on, activity that is counted in the ended epoch is listed once more, in the next epoch.
        let end = self.changes.count()?;
        let read = self.changes.read(end, |source, state| {
            each(source, state, epoch::unread(state.epoch, stopped, ended_epoch));
        })?;
        let whole = match read {
            Found::All => None,
            Found::Unknown => Some(Whole::Takeover),
            Found::Overwritten(lost) => {
                tracing::warn!(
                    "{lost} of the sources that did something were overwritten in the list of them: the whole table is read"
                );
                Some(Whole::Overflow)
            }
        };
        if whole.is_some() {
            self.read_whole(ended_epoch, each)?;
        }
        // Sources that were listed around the end of the epoch may have been read before their activity was counted in
        // the next.
        self.changes.goes_on(before);
        self.stopped = self.settings.epoch;
        if let Some(meta) = &mut self.meta {
            meta.note_polled(monotonic(), self.stopped);
        }
        let tally = self.read_tally()?;
        let entries = self.count_entries(tally.inserted)?;
        Ok(Poll { tally, entries, whole })
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        let state = batch::look(self.sources.fd().as_fd(), source);
        let state = state.map_err(|error| SensorError::Call {
            call: "BPF_MAP_LOOKUP_ELEM",
            map: abi::SOURCES,
            error,
        })?;
        let unread = |state: &SourceState| epoch::unread(state.epoch, self.stopped, self.settings.epoch);
        Ok(state.map(|state| (state, unread(&state))))
    }

    fn sees_leaving(&self) -> bool {
        self.settings.sees_leaving != 0
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        if self.settings.sees_answers == u32::from(sees) {
            return Ok(());
        }
        self.tell(|control| control.sees_answers = u32::from(sees))
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        let taken = batch::take(self.sources.fd().as_fd(), source);
        let taken = taken.map_err(|error| SensorError::Call {
            call: "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
            map: abi::SOURCES,
            error,
        })?;
        self.removed += u64::from(taken.is_some());
        Ok(taken)
    }

    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        let error = |error| SensorError::Map { map: abi::TURNED_AWAY, error };
        let mut sum = TurnedAway::default();
        for cpu in self.turned_away.get(&0, 0).map_err(error)?.iter() {
            sum.count = sum.count.wrapping_add(cpu.count);
            sum.samples.extend(cpu.samples.iter().filter(|sample| sample.taken != 0));
        }
        Ok(sum)
    }

    fn sees_handshakes(&self) -> bool {
        self.connections_attached
    }
}
