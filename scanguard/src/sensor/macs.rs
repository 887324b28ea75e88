//! The MAC addresses of the watched interfaces, in the map where the kernel program looks them up.

use std::collections::BTreeMap;

use aya::maps::{Array, MapData};
use scanguard_common::abi;

use super::{SensorError, missing};

/// The map, and its contents.
pub(super) struct Macs {
    map: Array<MapData, u64>,
    present: Vec<u64>,
}

impl Macs {
    /// Takes the map, which may have entries already.
    pub(super) fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map = ebpf.take_map(abi::OWN_MACS).ok_or_else(|| missing(abi::OWN_MACS))?;
        let map: Array<_, u64> = Array::try_from(map).map_err(error)?;
        let present = map.iter().collect::<Result<_, _>>().map_err(error)?;
        Ok(Self { map, present })
    }

    /// Makes the map have exactly these, as far as they find their place.
    pub(super) fn set(&mut self, macs: &BTreeMap<u32, [u8; 6]>) -> Result<(), SensorError> {
        let wanted = places(macs);
        for (place, present) in (0..).zip(&mut self.present) {
            let word = wanted.get(&place).copied().unwrap_or_default();
            if *present != word {
                self.map.set(place, word, 0).map_err(error)?;
                *present = word;
            }
        }
        Ok(())
    }
}

/// The words by their places. Of several interfaces with one place, the one with the lowest number gets it.
fn places(macs: &BTreeMap<u32, [u8; 6]>) -> BTreeMap<u32, u64> {
    let mut places = BTreeMap::new();
    for (interface, [a, b, c, d, e, f]) in macs {
        let word = abi::own_mac(*interface, u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, 0, 0]));
        places.entry(interface % abi::MAX_OWN_MACS).or_insert(word);
    }
    places
}

fn error(error: aya::maps::MapError) -> SensorError {
    SensorError::Map { map: abi::OWN_MACS, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_one_place_are_told_apart_and_the_first_one_has_it() {
        let mac = [2, 0, 0, 0, 0, 7];
        let places = places(&[(3, mac), (3 + abi::MAX_OWN_MACS, mac), (4, mac)].into());
        assert_eq!(places.keys().copied().collect::<Vec<_>>(), [3, 4]);
        let frame = u64::from_ne_bytes([2, 0, 0, 0, 0, 7, 9, 9]);
        assert_eq!(places[&3], abi::own_mac(3, frame));
        assert_ne!(places[&3], abi::own_mac(3 + abi::MAX_OWN_MACS, frame));
        assert_ne!(places[&3], abi::own_mac(3, u64::from_ne_bytes([2, 0, 0, 0, 0, 8, 9, 9])));
    }
}
