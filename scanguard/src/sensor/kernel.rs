//! The live sensor: reads the maps of the loaded program.

use std::{collections::BTreeSet, os::fd::AsFd as _, time::Duration};

use aya::maps::{Array, Map, MapData, PerCpuArray, lpm_trie::LpmTrie};
use ipnet::IpNet;
use scanguard_common::{abi, account::SourceState, address::Address, epoch, tally::Tally};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{clock::monotonic, content::sampling::Budgets, network::Local};

use super::{
    Occupancy, Poll, Sensor, SensorError, TurnedAway, Visit, Whole,
    census::Census,
    changes::{Changes, Found},
    gate::{Gate, GateMode, HoldTerms, Standing},
    home::Home,
    missing,
    pins::{MetaMap, Taken},
    sys::batch::{self, BatchReader, Place},
};

/// Entries read at once: 11 ms for 60,000 entries where it was tried, against 55 ms one by one.
const BATCH: usize = 4096;

/// For how long an address counts as live after it answered: those who sleep at night are up by then.
const LIVE_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long a service without a socket counts as published after it answered. A first client after that is
/// not known to meet a service; that alone makes nobody a scanner.
const PUBLISHED_AGE: Duration = Duration::from_secs(60 * 60);

/// After how long without a poll, at least, the program takes the agent to be gone and moves the epoch on by itself: as long as
/// the watchdog of the service waits. What a source does within two such epochs is a burst by the rules that look at a minute.
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
    gate: Gate,
    live: Noted<Address>,
    published: Noted<abi::ServiceKey>,
    reader: BatchReader<Address, SourceState>,
    changes: Changes,
    census: Census,
    /// Where the census is.
    counted: Place,
    /// Sources that the agent took out of the table.
    removed: u64,
    /// What the program was told last.
    told: abi::Control,
    /// Whom it holds by itself.
    hold: Option<HoldTerms>,
    /// What is noted for the next agent.
    meta: Option<MetaMap>,
    /// From one poll to the next.
    epoch_length: Duration,
    /// When an agent before this one last read the sources that are there.
    read_before: Option<Duration>,
    /// The epoch that ran when sources were read last, by this agent or by one before it: all before that is known.
    stopped: u32,
    /// Whether the program hears of connections.
    hears_connections: bool,
}

/// How long an epoch lasts at most where polls come in such a distance.
fn longest_epoch(poll_interval: Duration) -> Duration {
    EPOCH_LASTS.max(poll_interval.saturating_mul(EPOCH_POLLS))
}

/// A map of what answered to the epoch in which it did so last.
struct Noted<K> {
    map: MapData,
    name: &'static str,
    reader: BatchReader<K, u32>,
}

impl KernelSensor {
    /// Takes the maps out of the loaded program, which keeps so many bits of an IPv6 source. Of maps that an agent
    /// before this one used, everything goes on as it was: epochs, bans, and what the gate does.
    ///
    /// # Errors
    /// A map is missing or has another type: the object is of another version.
    pub fn new(ebpf: &mut aya::Ebpf, ipv6_prefix: u8) -> Result<Self, SensorError> {
        let map_error = |map| move |error| SensorError::Map { map, error };
        let Map::LruHashMap(sources) = take(ebpf, abi::SOURCES)? else {
            return Err(missing(abi::SOURCES));
        };
        let tally = PerCpuArray::try_from(take(ebpf, abi::TALLY)?).map_err(map_error(abi::TALLY))?;
        let control: Array<_, abi::Control> =
            Array::try_from(take(ebpf, abi::CONTROL)?).map_err(map_error(abi::CONTROL))?;
        let told = control.get(&0, 0).map_err(map_error(abi::CONTROL))?;
        let running = Array::try_from(take(ebpf, abi::RUNNING)?).map_err(map_error(abi::RUNNING))?;
        let is_new = told.epoch == 0;
        let reader = BatchReader::new(BATCH).map_err(|error| SensorError::Call {
            call: "reading",
            map: abi::SOURCES,
            error,
        })?;
        let home = LpmTrie::try_from(take(ebpf, abi::HOME)?).map_err(map_error(abi::HOME))?;
        let first = abi::Control {
            epoch: 1,
            // Until it is told otherwise, ports without a socket may be somebody else's.
            forwards: 1,
            // For ever, until the length of an epoch is known.
            live_epochs: i32::MAX.cast_unsigned(),
            published_epochs: i32::MAX.cast_unsigned(),
            free_entries: u32::MAX,
            ..abi::Control::default()
        };
        let turned_away =
            PerCpuArray::try_from(take(ebpf, abi::TURNED_AWAY)?).map_err(map_error(abi::TURNED_AWAY))?;
        let capacity = sources.info().map_err(map_error(abi::SOURCES))?.max_entries();
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
            live: Noted::new(ebpf, abi::LIVE)?,
            published: Noted::new(ebpf, abi::PUBLISHED)?,
            reader,
            gate: Gate::new(ebpf, ipv6_prefix, told.allowed_version)?,
            told: if is_new { first } else { told },
            hold: None,
            epoch_length: Duration::from_secs(1),
            meta: None,
            read_before: None,
            stopped: if is_new { first.epoch } else { told.epoch },
            hears_connections: false,
        };
        sensor.tell(|_| {})?;
        Ok(sensor)
    }

    /// Goes on where the agent before this one ended: takes what was copied of its bans, who was allowed and what the
    /// gate did; and notes from now on what the next agent needs. Gives the bans for which there was no room.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn resume(&mut self, taken: &mut Taken) -> Result<usize, SensorError> {
        self.meta = taken.meta.take();
        self.read_before = taken.polled;
        self.stopped = taken.stopped.unwrap_or(self.told.epoch);
        let mut lost = 0;
        if let Some(inherited) = taken.inherited.take() {
            self.gate.set_allowed(&inherited.allowed)?;
            for (banned, ban) in inherited.bans {
                lost += usize::from(self.gate.restore(banned, ban).is_err());
            }
            (self.told.gate, self.told.drop_all) = (inherited.gate, inherited.drop_all);
        }
        self.tell(|_| {})?;
        Ok(lost)
    }

    /// Whether the program ran for longer than an epoch lasts without an agent before this one took over: nobody knows when
    /// it took the samples that are there. Until [`Self::read_before`]. An epoch lasts as long as polls are apart.
    pub fn was_alone(&self, poll_interval: Duration) -> bool {
        let alone = self.read_before.map(|before| monotonic().saturating_sub(before));
        alone.is_some_and(|alone| alone >= longest_epoch(poll_interval))
    }

    /// Hands on every source that an agent before this one has read, with its state as it is now, and the epoch from which on its
    /// distinct things are new. Those that came later are as new to this agent as they were to that one: the next poll hands
    /// them on. Unless the program has moved the epoch on: then all are handed on, since nobody knows when what is counted of
    /// them was done. Gives what such a poll would, but does not end an epoch; nothing where nothing was taken over.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn read_before(&mut self, each: &mut Visit<'_>) -> Result<Option<Poll>, SensorError> {
        let Some(before) = self.read_before.take() else {
            return Ok(None);
        };
        self.catch_up()?;
        let (stopped, running) = (self.stopped, self.told.epoch);
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

    /// Hands on every source of the whole table that may have done something since the epoch before this one began, or the
    /// last that was read.
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

    /// Counts a part of the table; how many entries there are.
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

    /// Takes whether the program hears of connections ([`super::connections`]). At first: no.
    pub fn hear_connections(&mut self, heard: bool) {
        self.hears_connections = heard;
    }

    /// Whether it does.
    pub fn hears_connections(&self) -> bool {
        self.hears_connections
    }

    /// Tells the program which addresses are this host's, and whether it forwards.
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

    /// Has the program tell of a source at once from so many novelties on; 0: never.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_wakeup(&mut self, novelties: u32) -> Result<(), SensorError> {
        self.tell(|control| control.wakeup = novelties)
    }

    /// Takes which networks are routed to this host; [`Self::set_local`] then tells the program.
    pub fn set_routed(&mut self, routed: &[IpNet]) {
        self.home.set_routed(routed);
    }

    /// Tells the program how many epochs of this length what was noted counts.
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
        })?;
        self.set_longest_epoch(longest_epoch(length))
    }

    /// After how long without a poll the program moves the epoch on by itself, see [`abi::Control::epoch_ticks`].
    /// [`Self::set_epoch_length`] sets it, too.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_longest_epoch(&mut self, longest: Duration) -> Result<(), SensorError> {
        let ticks = u32::try_from(self.gate.ticks(longest)).unwrap_or(u32::MAX);
        self.tell(|control| control.epoch_ticks = ticks)
    }

    /// How many samples are taken: of one source, and on each CPU. At first: none.
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

    /// What the gate does with those who are banned, and whether it spares nothing of theirs.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        self.tell(|control| {
            control.gate = mode.number();
            control.drop_all = u32::from(drop_all);
        })
    }

    /// Whom the program holds by itself until the agent has judged; none: nobody.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_hold(&mut self, hold: Option<HoldTerms>) -> Result<(), SensorError> {
        self.hold = hold;
        self.tell(|_| {})
    }

    /// Bans a network or address anew, or changes its ban: for so long (none: without an end), to drop
    /// (`enforced`) or to count what would be dropped. What a ban that holds has counted stays.
    ///
    /// # Errors
    /// The map is full or could not be changed.
    pub fn ban(&mut self, banned: IpNet, lasts: Option<Duration>, enforced: bool) -> Result<(), SensorError> {
        self.ban_all(&mut std::iter::once((banned, lasts, enforced)))
    }

    /// As [`Self::ban`], for many: who, for how long, whether to drop.
    ///
    /// # Errors
    /// A map is full or could not be changed. Those before it in its map, and those in the other map, are banned.
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

    /// Ends the ban of just this network or address; whether there was one.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn unban(&mut self, banned: IpNet) -> Result<bool, SensorError> {
        let was_banned = self.gate.unban(banned)?;
        self.tell(|_| {})?;
        Ok(was_banned)
    }

    /// The ban of just this network or address, if there is one. One that has ended stays until
    /// [`Self::unban`].
    ///
    /// # Errors
    /// The map could not be read.
    pub fn standing(&self, banned: IpNet) -> Result<Option<Standing>, SensorError> {
        self.gate.standing(banned)
    }

    /// As [`Self::standing`], for many, at one moment: those that there are.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn standings(&self, banned: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        self.gate.standings(banned)
    }

    /// All that are in the maps of bans, also those whose ban has ended.
    pub fn banned(&self) -> impl Iterator<Item = IpNet> {
        self.gate.present()
    }

    /// Shields from sources, or changes that: whom, for how long (none: without an end), whether to drop or to count what
    /// would be dropped. Only sources as they are counted can be: an IPv4 address, or an IPv6 prefix of the length of the
    /// mask.
    ///
    /// # Errors
    /// The map is full or could not be changed. Those before it are shielded from.
    pub fn shield_all(
        &mut self,
        shields: &mut dyn Iterator<Item = (IpNet, Option<Duration>, bool)>,
    ) -> Result<(), SensorError> {
        let result = self.gate.shield_all(shields);
        self.tell(|_| {})?;
        result
    }

    /// Ends shields; those that are not there are none the worse.
    ///
    /// # Errors
    /// The map could not be changed. The shields before it have ended.
    pub fn unshield_all(&mut self, mut shielded: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        let gate = &mut self.gate;
        let result = (&mut shielded).try_for_each(|shielded| gate.unshield(shielded).map(drop));
        self.tell(|_| {})?;
        result
    }

    /// The shields from just these sources, at one moment: those that there are.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn shield_standings(&self, shielded: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        self.gate.shield_standings(shielded)
    }

    /// All that are in the map of shields, also those whose shield has ended.
    pub fn shielded(&self) -> impl Iterator<Item = IpNet> {
        self.gate.shielded()
    }

    /// Makes these, and nobody else, the ones that are never dropped.
    ///
    /// # Errors
    /// The map is full or could not be changed; the list may then hold a part of them.
    pub fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError> {
        let set = self.gate.set_allowed(allowed);
        self.tell(|_| {}).and(set)
    }

    /// Who is never dropped, as the map has it; that of an agent before this one, until it is set.
    pub fn allowed(&self) -> &BTreeSet<IpNet> {
        self.gate.allowed()
    }

    /// How many new sources an epoch enter the table on each CPU with their first probe; after that, with their
    /// second. At first: all.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn set_free_entries(&mut self, free_entries: u32) -> Result<(), SensorError> {
        self.tell(|control| control.free_entries = free_entries)
    }

    /// How full the maps of what answered are.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn occupancy(&mut self) -> Result<Occupancy, SensorError> {
        Ok(Occupancy { live: self.live.len()?, published: self.published.len()? })
    }

    /// Changes what the program is told.
    fn tell(&mut self, change: impl FnOnce(&mut abi::Control)) -> Result<(), SensorError> {
        change(&mut self.told);
        self.gate.describe(&mut self.told);
        self.describe_reflex();
        self.control.set(0, self.told, 0).map_err(|error| SensorError::Map { map: abi::CONTROL, error })?;
        if let Some(meta) = &mut self.meta {
            meta.note_told(&self.told);
        }
        Ok(())
    }

    /// Takes the running epoch from the program, which may have moved on from the one that it was told last.
    fn catch_up(&mut self) -> Result<(), SensorError> {
        let running = self.running.get(&0, 0);
        let running = running.map_err(|error| SensorError::Map { map: abi::RUNNING, error })?;
        if running.told == self.told.epoch && epoch::is_after(running.epoch, running.told) {
            self.told.epoch = running.epoch;
        }
        Ok(())
    }

    fn describe_reflex(&mut self) {
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let Some(HoldTerms { services, lasts, most }) = self.hold else {
            self.told.hold_from = 0;
            return;
        };
        self.told.hold_from = services;
        self.told.hold_ticks = number(self.gate.ticks(lasts));
        self.told.max_holds = most;
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
        let (ended_epoch, stopped) = (self.told.epoch, self.stopped);
        let before = self.changes.count()?;
        self.tell(|control| control.epoch = ended_epoch.wrapping_add(1))?;
        // What is counted in the ended epoch from here on is listed once more, in the next.
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
        // Those that were listed around the end of the epoch may have been read before they were counted in the next.
        self.changes.goes_on(before);
        self.stopped = self.told.epoch;
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
        let unread = |state: &SourceState| epoch::unread(state.epoch, self.stopped, self.told.epoch);
        Ok(state.map(|state| (state, unread(&state))))
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
        self.hears_connections
    }
}
