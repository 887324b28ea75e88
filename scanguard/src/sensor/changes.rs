//! Reads the sources that did something: the program lists them, and another copies their states to where this process
//! sees them without a call, a thousand in one run.
//!
//! Against reading the whole table by batch this costs in proportion to what has changed, and less for each source: one
//! copy instead of two, and no lock of a bucket.

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
    /// Places of the ring.
    places: u64,
    /// How many of the list were read; none: not known, since another agent has read of it.
    read: Option<u64>,
}

/// What [`Changes::read`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Everything that was listed was handed on.
    All,
    /// Nobody knows from where on to read.
    Unknown,
    /// So many that were listed are not known: they were overwritten. Those that were still there may have been handed
    /// on.
    Overwritten(u64),
}

impl Changes {
    /// Takes the list out of the loaded program; a new one, or one that another agent has read of.
    pub(super) fn new(ebpf: &mut aya::Ebpf, is_new: bool) -> Result<Self, SensorError> {
        let failed = |map| move |error| SensorError::Map { map, error };
        let count = ebpf.take_map(abi::CHANGE_COUNT).ok_or_else(|| missing(abi::CHANGE_COUNT))?;
        let count = Array::try_from(count).map_err(failed(abi::CHANGE_COUNT))?;
        // It stays where it is: the egress program is yet to be loaded with it.
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

    /// How many were ever listed.
    pub(super) fn count(&self) -> Result<u64, SensorError> {
        self.count.get(&0, 0).map_err(|error| SensorError::Map { map: abi::CHANGE_COUNT, error })
    }

    /// Hands on the states of those that were listed from where [`Self::goes_on`] said, before there were `end`.
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
        // Others may have been listed while it was read.
        let lost = overwritten(begin, self.count()?, self.places);
        Ok(if lost == 0 { Found::All } else { Found::Overwritten(lost) })
    }

    /// All that was listed before there were `count` is known.
    pub(super) fn goes_on(&mut self, count: u64) {
        self.read = Some(count);
    }

    /// Has the program read.
    fn run(&mut self, request: ReadRequest) -> Result<&[Reading], SensorError> {
        let frame = request.as_bytes();
        let run = run::run(self.program.as_fd(), frame, 1)
            .map_err(|error| SensorError::Run { length: frame.len(), error })?;
        let found = run.verdict.min(abi::READ_AT_ONCE) as usize;
        // SAFETY: the map holds so many, at the beginning of a page, and any bytes are a reading. Only that program writes
        // to it, of which there is one, and it runs when this object is exclusively borrowed.
        Ok(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), found) })
    }
}

/// How many of those that were listed from `begin` on were overwritten once there were `count`. Both may have wrapped.
fn overwritten(begin: u64, count: u64, places: u64) -> u64 {
    count.wrapping_sub(begin).saturating_sub(places)
}

/// Maps what the program has read into memory.
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
