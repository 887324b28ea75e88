//! Reads the sources that did something. The program lists them, and another program copies their states to memory
//! that this process has mapped, many in one run ([`abi::READ_AT_ONCE`]).
//!
//! Compared with reading the whole table in batches, the cost grows only with the number of changes. It is also less
//! for each source: there is one copy instead of two, and no lock of a bucket.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    maps::{Array, MapData},
    programs::{ProgramError, Xdp},
};
use memmap2::{MmapOptions, MmapRaw};
use scanguard_common::{
    abi::{self, ReadRequest, Reading},
    account::SourceState,
    address::Address,
};
use zerocopy::IntoBytes as _;

use super::{SensorError, missing, sys::run};

/// The reading end of the list.
pub(super) struct Changes {
    count: Array<MapData, u64>,
    program: OwnedFd,
    memory: MmapRaw,
    /// Number of places in the ring.
    places: u64,
    /// How many entries of the list were read. Nothing: it is not known, since another agent has read the list.
    read: Option<u64>,
}

/// The result of [`Changes::read`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// All entries were passed on.
    All,
    /// Nobody knows where to continue.
    Unknown,
    /// This many entries are lost, because they were overwritten. The others may have been passed on.
    Overwritten(u64),
}

impl Changes {
    /// Takes the list out of the loaded program. It is new, or another agent has read it before.
    pub(super) fn new(ebpf: &mut aya::Ebpf, is_new: bool) -> Result<Self, SensorError> {
        let failed = |map| move |error| SensorError::Map { map, error };
        let count = ebpf.take_map(abi::CHANGE_COUNT).ok_or_else(|| missing(abi::CHANGE_COUNT))?;
        let count = Array::try_from(count).map_err(failed(abi::CHANGE_COUNT))?;
        // The map stays in the object: the egress program still has to be loaded with it.
        let ring = ebpf.map(abi::CHANGES).ok_or_else(|| missing(abi::CHANGES))?;
        let ring: Array<_, [u8; size_of::<Address>()]> =
            Array::try_from(ring).map_err(failed(abi::CHANGES))?;
        let program = || -> Result<OwnedFd, ProgramError> {
            let program: &Xdp = ebpf.program(abi::READ_PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()?;
            program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
        };
        let program = program().map_err(|error| SensorError::Program { error })?;
        let places = ring.len().into();
        Ok(Self { count, program, memory: map(ebpf)?, places, read: is_new.then_some(0) })
    }

    /// How many entries were ever written to the list.
    pub(super) fn count(&self) -> Result<u64, SensorError> {
        self.count.get(&0, 0).map_err(|error| SensorError::Map { map: abi::CHANGE_COUNT, error })
    }

    /// Passes on the states of the sources in the list, from the position that [`Self::goes_on`] set up to `end`.
    pub(super) fn read(
        &mut self,
        end: u64,
        mut each: impl FnMut(&Address, &SourceState),
    ) -> Result<Found, SensorError> {
        let Some(begin) = self.read else {
            return Ok(Found::Unknown);
        };
        if overwritten(begin, end, self.places) == 0 {
            let mut first = begin;
            while first != end {
                let count = end.wrapping_sub(first).min(abi::READ_AT_ONCE.into());
                for Reading { source, state } in self.run(ReadRequest { first, count })? {
                    each(source, state);
                }
                first = first.wrapping_add(count);
            }
        }
        // Meanwhile, others may have been written to the list.
        let lost = overwritten(begin, self.count()?, self.places);
        Ok(if lost == 0 { Found::All } else { Found::Overwritten(lost) })
    }

    /// Notes that everything before the entry `count` is known.
    pub(super) fn goes_on(&mut self, count: u64) {
        self.read = Some(count);
    }

    /// Runs the reading program.
    fn run(&mut self, request: ReadRequest) -> Result<&[Reading], SensorError> {
        let frame = request.as_bytes();
        let run = run::run(self.program.as_fd(), frame, 1)
            .map_err(|error| SensorError::Run { length: frame.len(), error })?;
        let found = run.verdict.min(abi::READ_AT_ONCE) as usize;
        // SAFETY: the map has this many entries, at the beginning of a page, and any bytes are a valid reading. Only
        // that program writes to it. There is one such program, and it runs only while this object is exclusively
        // borrowed.
        Ok(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), found) })
    }
}

/// How many of the entries from `begin` on were overwritten when the list had `count`. Both numbers may have wrapped.
fn overwritten(begin: u64, count: u64, places: u64) -> u64 {
    count.wrapping_sub(begin).saturating_sub(places)
}

/// Maps the memory of the reading program.
fn map(ebpf: &aya::Ebpf) -> Result<MmapRaw, SensorError> {
    let Some(aya::maps::Map::Array(map)) = ebpf.map(abi::READ) else {
        return Err(missing(abi::READ));
    };
    MmapOptions::new()
        .len(size_of::<Reading>() * abi::READ_AT_ONCE as usize)
        .map_raw_read_only(&map.fd().as_fd())
        .map_err(|error| SensorError::Call { call: "mmap", map: abi::READ, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_has_lost_nothing_and_one_more_has() {
        assert_eq!(overwritten(0, 512, 512), 0);
        assert_eq!(overwritten(1_000, 1_512, 512), 0);
        assert_eq!(overwritten(1_000, 1_513, 512), 1);
        assert_eq!(overwritten(u64::MAX - 10, 502, 512), 1);
    }

    #[test]
    fn a_table_all_of_which_has_changed_finds_room_in_the_list() {
        for max_sources in [1, 16, 65_535, 65_536, 1_000_000, 1 << 24] {
            assert!(abi::change_places(max_sources) > max_sources);
            assert!(abi::change_places(max_sources).is_power_of_two());
        }
    }
}
