//! The live sensor: reads the maps of the loaded program.

use std::os::fd::AsFd as _;

use aya::maps::{Array, Map, MapData, PerCpuArray, lpm_trie::LpmTrie};
use scanguard_common::{abi, account::SourceState, address::Address, tally::Tally};

use crate::network::Local;

use super::{
    Poll, Sensor, SensorError, Visit,
    batch::{self, BatchReader},
    home::Home,
    missing,
};

/// Entries read at once: 11 ms for 60,000 entries where it was tried, against 55 ms one by one.
const BATCH: usize = 4096;

/// The maps of a loaded program.
pub struct KernelSensor {
    sources: MapData,
    tally: PerCpuArray<MapData, Tally>,
    control: Array<MapData, abi::Control>,
    home: Home,
    reader: BatchReader<Address, SourceState>,
    /// The running epoch, as the program knows it.
    epoch: u32,
    /// Until it is told otherwise, ports without a socket may be somebody else's.
    forwards: bool,
    /// From how many news of a source on the agent is told at once; 0: never.
    trip: u32,
}

impl KernelSensor {
    /// Takes the maps out of the loaded program.
    ///
    /// # Errors
    /// A map is missing or has another type: the object is of another version.
    pub fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map_error = |map| move |error| SensorError::Map { map, error };
        let Map::LruHashMap(sources) = take(ebpf, abi::SOURCES)? else {
            return Err(missing(abi::SOURCES));
        };
        let tally = PerCpuArray::try_from(take(ebpf, abi::TALLY)?).map_err(map_error(abi::TALLY))?;
        let control = Array::try_from(take(ebpf, abi::CONTROL)?).map_err(map_error(abi::CONTROL))?;
        let reader = BatchReader::new(BATCH).map_err(|error| SensorError::Call {
            call: "reading",
            map: abi::SOURCES,
            error,
        })?;
        let home = LpmTrie::try_from(take(ebpf, abi::HOME)?).map_err(map_error(abi::HOME))?;
        let mut sensor = Self {
            sources,
            tally,
            control,
            home: Home::new(home),
            reader,
            epoch: 0,
            forwards: true,
            trip: 0,
        };
        sensor.set_epoch(1)?;
        Ok(sensor)
    }

    /// The running epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Tells the program which addresses are this host's, and whether it forwards.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_local(&mut self, local: &Local) -> Result<(), SensorError> {
        self.forwards = local.forwards;
        self.set_epoch(self.epoch)?;
        self.home.set(local)
    }

    /// Has the program tell of a source at once from so many news on; 0: never.
    ///
    /// # Errors
    /// A map could not be changed.
    pub fn set_trip(&mut self, news: u32) -> Result<(), SensorError> {
        self.trip = news;
        self.set_epoch(self.epoch)
    }

    fn set_epoch(&mut self, epoch: u32) -> Result<(), SensorError> {
        let control =
            abi::Control { epoch, forwards: u32::from(self.forwards), trip: self.trip, reserved: 0 };
        self.control.set(0, control, 0).map_err(|error| SensorError::Map { map: abi::CONTROL, error })?;
        self.epoch = epoch;
        Ok(())
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

fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Map, SensorError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

impl Sensor for KernelSensor {
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let ended_epoch = self.epoch;
        self.set_epoch(ended_epoch.wrapping_add(1))?;
        // A packet that was under way on another CPU while the epoch before was ended may have been
        // counted after that poll: its source is handed on once more.
        let oldest = ended_epoch.wrapping_sub(1);
        let entries = self
            .reader
            .read(self.sources.fd().as_fd(), |source, state| {
                if state.epoch.wrapping_sub(oldest) <= 2 {
                    each(source, state, ended_epoch);
                }
            })
            .map_err(|error| SensorError::Call { call: "BPF_MAP_LOOKUP_BATCH", map: abi::SOURCES, error })?;
        Ok(Poll { tally: self.read_tally()?, entries })
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        let state = batch::look(self.sources.fd().as_fd(), source);
        let state = state.map_err(|error| SensorError::Call {
            call: "BPF_MAP_LOOKUP_ELEM",
            map: abi::SOURCES,
            error,
        })?;
        Ok(state.map(|state| (state, self.epoch)))
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        batch::take(self.sources.fd().as_fd(), source).map_err(|error| SensorError::Call {
            call: "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
            map: abi::SOURCES,
            error,
        })
    }
}
