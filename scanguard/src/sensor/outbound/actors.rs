//! Reads the table of actors, and who they are.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use ipnet::IpNet;
use scanguard_common::{
    abi,
    account::SourceState,
    actor::{self, HOUR_NS, Identity, Key, Kind, MAX_ACTORS, SEEN, Seen, Served, Tally, marks},
    address::Address,
    epoch,
};

use super::super::{
    ActorSensor, Poll, Sensor, SensorError, TurnedAway, Visit,
    gate::GateMode,
    missing,
    sys::{
        batch::{self, BatchReader},
        info,
    },
};
use super::{blocks::Blocks, nowhere::Nowhere};
use crate::{clock::monotonic, observe::distinct::estimate};

/// The tables of actors. It is polled right after the sensor of sources, which ends the epoch for both.
pub struct KernelActors {
    actors: MapData,
    identities: MapData,
    tally: PerCpuArray<MapData, Tally>,
    /// A second handle: the other sensor writes it.
    control: Array<MapData, abi::Control>,
    reader: BatchReader<Address, SourceState>,
    identity_reader: BatchReader<Address, Identity>,
    /// The epoch that was running at the last read.
    stopped: u32,
    /// What was looked at until the last poll.
    last: Tally,
    /// The changes of the table that were counted until the last read.
    changes: Option<u64>,
    entries: u64,
    blocks: Blocks,
    inner: HashMap<MapData, u32, u32>,
    nowhere: Nowhere,
    served: HashMap<MapData, u64, Served>,
    /// The program that sees connections, if it is loaded.
    connections: Option<OwnedFd>,
    /// How many raw sockets were opened, and by the kernel's clock when, until the openers were last asked for.
    opened: (u64, u64),
}

/// What changes nothing in the table.
const WITHOUT_CHANGE: [Seen; 12] = [
    Seen::Again,
    Seen::AtTheDoor,
    Seen::Known,
    Seen::Own,
    Seen::Elsewhere,
    Seen::Unreadable,
    Seen::NoRoom,
    Seen::Blocked,
    Seen::WouldBlock,
    Seen::Busy,
    Seen::Displaced,
    Seen::Overwritten,
];

impl KernelActors {
    /// Takes the maps out of the loaded program. The sensor of sources takes its own later: both use its settings.
    ///
    /// # Errors
    /// A map is missing or has another type.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        let map_error = |map| move |error| SensorError::Map { map, error };
        let Some(Map::Array(control)) = ebpf.map(abi::CONTROL) else {
            return Err(missing(abi::CONTROL));
        };
        let control = control.fd().as_fd().try_clone_to_owned();
        let control = control.map_err(|error| SensorError::Call { call: "dup", map: abi::CONTROL, error })?;
        let control = MapData::from_fd(control).and_then(Map::from_map_data).and_then(Array::try_from);
        let control: Array<_, abi::Control> = control.map_err(map_error(abi::CONTROL))?;
        let reader = BatchReader::new(MAX_ACTORS as usize);
        let reader =
            reader.map_err(|error| SensorError::Call { call: "reading", map: actor::ACTORS, error })?;
        let failed = |error| SensorError::Call { call: "reading", map: actor::IDENTITIES, error };
        let identity_reader = BatchReader::new(IDENTITIES_AT_ONCE).map_err(failed)?;
        let tally = ebpf.take_map(actor::OUTBOUND_TALLY).ok_or_else(|| missing(actor::OUTBOUND_TALLY))?;
        let blocks = Blocks::new(ebpf)?;
        let connections = ebpf.program(abi::CONNECTIONS_PROGRAM).and_then(|program| program.fd().ok());
        let connections = connections.map(|program| program.as_fd().try_clone_to_owned()).transpose();
        let connections = connections.map_err(|error| SensorError::Call {
            call: "dup",
            map: abi::CONNECTIONS_PROGRAM,
            error,
        })?;
        let inner = ebpf.take_map(actor::INNER).ok_or_else(|| missing(actor::INNER))?;
        let served = ebpf.take_map(actor::SERVED).ok_or_else(|| missing(actor::SERVED))?;
        Ok(Self {
            actors: take_lru(ebpf, actor::ACTORS)?,
            identities: take_lru(ebpf, actor::IDENTITIES)?,
            tally: PerCpuArray::try_from(tally).map_err(map_error(actor::OUTBOUND_TALLY))?,
            stopped: control.get(&0, 0).map_err(map_error(abi::CONTROL))?.epoch,
            control,
            reader,
            identity_reader,
            last: Tally::default(),
            changes: None,
            entries: 0,
            blocks,
            inner: HashMap::try_from(inner).map_err(map_error(actor::INNER))?,
            nowhere: Nowhere::new(ebpf)?,
            served: HashMap::try_from(served).map_err(map_error(actor::SERVED))?,
            connections,
            opened: (0, 0),
        })
    }

    /// Blocks an actor from now on, for so long: a program, a control group, or a maker of packets.
    ///
    /// # Errors
    /// There is no room, or the map could not be changed.
    pub fn block(&mut self, key: &Address, lasts: Duration) -> Result<(), SensorError> {
        self.blocks.block(key, lasts)
    }

    /// Ends a block. Gives whether there was one.
    ///
    /// # Errors
    /// The map could not be changed.
    pub fn unblock(&mut self, key: &Address) -> Result<bool, SensorError> {
        self.blocks.unblock(key)
    }

    /// The blocked actors, and for how much longer.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn blocked(&mut self) -> Result<Vec<(Address, Duration)>, SensorError> {
        self.blocks.sweep()
    }

    /// The process that was last seen to act as an actor.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn identity(&self, key: &Address) -> Result<Option<Identity>, SensorError> {
        batch::look(self.identities.fd().as_fd(), key).map_err(call(actor::IDENTITIES))
    }

    /// Exact numbers of what was looked at.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn tally(&self) -> Result<Tally, SensorError> {
        let per_cpu = self.tally.get(&0, 0);
        let per_cpu = per_cpu.map_err(|error| SensorError::Map { map: actor::OUTBOUND_TALLY, error })?;
        let mut sum = [0u64; SEEN];
        for cpu in per_cpu.iter() {
            sum.iter_mut().zip(cpu.seen).for_each(|(sum, seen)| *sum = sum.wrapping_add(seen));
        }
        Ok(Tally { seen: sum })
    }

    /// How often the table was changed, by the tally.
    fn count_changes(&self) -> u64 {
        let changing = Seen::ALL.iter().filter(|seen| !WITHOUT_CHANGE.contains(seen));
        changing.fold(0, |sum: u64, one| sum.wrapping_add(self.last.seen[one.index()]))
    }

    fn running(&self) -> Result<u32, SensorError> {
        let control = self.control.get(&0, 0);
        Ok(control.map_err(|error| SensorError::Map { map: abi::CONTROL, error })?.epoch)
    }
}

/// How many identities are read at once: half a megabyte.
const IDENTITIES_AT_ONCE: usize = 512;

impl ActorSensor for KernelActors {
    fn identity(&mut self, key: &Address) -> Option<Identity> {
        Self::identity(self, key).ok().flatten()
    }

    fn openers(&mut self) -> Vec<Address> {
        let (before, since) = self.opened;
        let opened = self.last.seen[Seen::RawSocket.index()];
        if opened == before {
            return Vec::new();
        }
        let (mut newest, mut openers) = (since, Vec::new());
        let read = self.identity_reader.read(self.identities.fd().as_fd(), |key, identity| {
            let is_opener = identity.marks & (marks::RAW | marks::PACKET) != 0;
            if is_opener && Key::from_address(*key).kind == Kind::Crafter && identity.at_ns > since {
                openers.push(*key);
                newest = newest.max(identity.at_ns);
            }
        });
        // What could not be read is asked for again.
        if read.is_ok() {
            self.opened = (opened, newest);
        }
        openers
    }

    fn looked_at(&self) -> Option<Tally> {
        Some(self.last)
    }

    fn missed(&self) -> u64 {
        // A kernel that does not say it counts as one that missed nothing: Linux 5.12 and newer say it.
        let program = self.connections.as_ref().map(|program| info::recursion_misses(program.as_fd()));
        program.and_then(Result::ok).unwrap_or(0)
    }

    fn set_inner(&mut self, interfaces: &BTreeSet<u32>) -> Result<(), SensorError> {
        let failed = |error| SensorError::Map { map: actor::INNER, error };
        let present: Result<Vec<_>, _> = self.inner.keys().collect();
        for gone in present.map_err(failed)?.iter().filter(|present| !interfaces.contains(present)) {
            self.inner.remove(gone).map_err(failed)?;
        }
        for interface in interfaces {
            self.inner.insert(interface, 1, 0).map_err(failed)?;
        }
        Ok(())
    }

    fn set_near(&mut self, near: &[IpNet]) -> Result<(), SensorError> {
        self.nowhere.set_near(near)
    }

    fn callers(&mut self, actor: &Address, namespace: u32, port: u16) -> Result<u64, SensorError> {
        let served = match self.served.get(&actor::served(namespace, port), 0) {
            Ok(served) => served,
            Err(MapError::KeyNotFound) => return Ok(0),
            Err(error) => return Err(SensorError::Map { map: actor::SERVED, error }),
        };
        let (key, owner) = (Key::from_address(*actor), Key::from_address(served.owner));
        let is_its = match key.kind {
            Kind::Group => key.group == owner.group,
            Kind::Program => key == owner,
            Kind::Crafter | Kind::Inner => false,
        };
        let hour = u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX) / HOUR_NS;
        Ok(if is_its { estimate(&[served.networks(hour)]).value } else { 0 })
    }

    fn block(&mut self, actor: &Address, lasts: Option<Duration>) -> Result<bool, SensorError> {
        match lasts {
            Some(lasts) => self.blocks.block(actor, lasts)?,
            None => _ = self.blocks.unblock(actor)?,
        }
        Ok(true)
    }

    fn set_mode(&mut self, mode: GateMode) -> Result<(), SensorError> {
        self.blocks.set_mode(mode)
    }
}

fn call(map: &'static str) -> impl FnOnce(std::io::Error) -> SensorError {
    move |error| SensorError::Call { call: "BPF_MAP_LOOKUP_ELEM", map, error }
}

fn take_lru(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, SensorError> {
    match ebpf.take_map(name) {
        Some(Map::LruHashMap(map)) => Ok(map),
        _ => Err(missing(name)),
    }
}

impl Sensor for KernelActors {
    /// Passes on every actor with something counted since the last poll, or around it. The epoch is the one that the
    /// sensor of sources has just ended.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let running = self.running()?;
        self.last = self.tally()?;
        let changes = self.count_changes();
        // It is taken before the entries are counted: then those that are gone are never too many.
        let inserted = self.last.seen[Seen::Entered.index()];
        let tally = scanguard_common::tally::Tally { inserted, ..scanguard_common::tally::Tally::ZERO };
        let nothing = Poll { tally, entries: self.entries, whole: None };
        if self.changes == Some(changes) {
            self.stopped = running;
            return Ok(nothing);
        }
        let (stopped, ended) = (self.stopped, running.wrapping_sub(1));
        // What was counted while the epoch before ended may have come too late for the last read.
        let before = stopped.wrapping_sub(2);
        let map = self.actors.fd().as_fd();
        let read = self.reader.read(map, |key, state| {
            if epoch::is_after(state.epoch, before) {
                each(key, state, epoch::unread(state.epoch, stopped, ended));
            }
        });
        let failed = |error| SensorError::Call { call: "BPF_MAP_LOOKUP_BATCH", map: actor::ACTORS, error };
        self.entries = read.map_err(failed)?;
        (self.stopped, self.changes) = (running, Some(changes));
        Ok(Poll { entries: self.entries, ..nothing })
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        let state: Option<SourceState> =
            batch::look(self.actors.fd().as_fd(), source).map_err(call(actor::ACTORS))?;
        let running = self.running()?;
        Ok(state.map(|state| (state, epoch::unread(state.epoch, self.stopped, running))))
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        let failed =
            |error| SensorError::Call { call: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", map: actor::ACTORS, error };
        batch::take(self.actors.fd().as_fd(), source).map_err(failed)
    }

    /// All actors are admitted.
    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        Ok(TurnedAway::default())
    }

    /// The kernel says of each connection what came of it.
    fn sees_handshakes(&self) -> bool {
        true
    }

    fn sees_leaving(&self) -> bool {
        true
    }

    /// Answers to actors are always seen.
    fn set_sees_answers(&mut self, _sees: bool) -> Result<(), SensorError> {
        Ok(())
    }
}
