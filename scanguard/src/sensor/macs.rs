//! The MAC addresses of the watched interfaces, in the map where the kernel program looks them up.

use std::collections::BTreeMap;

use aya::maps::{HashMap, MapData};
use scanguard_common::abi;

use super::{SensorError, missing};

/// The map, and its contents.
pub(super) struct Macs {
    map: HashMap<MapData, u32, u64>,
    present: BTreeMap<u32, u64>,
}

impl Macs {
    /// Takes the map, which may have entries already.
    pub(super) fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map = ebpf.take_map(abi::OWN_MACS).ok_or_else(|| missing(abi::OWN_MACS))?;
        let map: HashMap<_, u32, u64> = HashMap::try_from(map).map_err(error)?;
        let present = map.iter().collect::<Result<_, _>>().map_err(error)?;
        Ok(Self { map, present })
    }

    /// Makes the map have exactly these. Those that go, go first, so that there is room.
    pub(super) fn set(&mut self, macs: &BTreeMap<u32, [u8; 6]>) -> Result<(), SensorError> {
        let wanted: BTreeMap<_, _> = macs.iter().map(|(index, mac)| (*index, number(*mac))).collect();
        for index in self.present.keys().filter(|index| !wanted.contains_key(index)) {
            self.map.remove(index).map_err(error)?;
        }
        self.present.retain(|index, _| wanted.contains_key(index));
        for (index, mac) in wanted.into_iter().take(abi::MAX_OWN_MACS as usize) {
            if self.present.insert(index, mac) != Some(mac) {
                self.map.insert(index, mac, 0).map_err(error)?;
            }
        }
        Ok(())
    }
}

/// Its six bytes, in the order in which a frame has them.
fn number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

fn error(error: aya::maps::MapError) -> SensorError {
    SensorError::Map { map: abi::OWN_MACS, error }
}
