//! Which addresses are ours, as the kernel program looks them up.

use std::{collections::BTreeSet, net::IpAddr};

use aya::maps::{
    MapData,
    lpm_trie::{Key, LpmTrie},
};
use scanguard_common::{abi, address::Address};

use super::SensorError;
use crate::network::Local;

/// The trie of addresses, and what is in it.
pub(super) struct Home {
    trie: LpmTrie<MapData, [u8; 16], u32>,
    present: BTreeSet<(IpAddr, u8)>,
}

impl Home {
    pub(super) fn new(trie: LpmTrie<MapData, [u8; 16], u32>) -> Self {
        Self { trie, present: BTreeSet::new() }
    }

    /// Makes the trie hold exactly these local networks. What stays is not touched meanwhile.
    pub(super) fn set(&mut self, local: &Local) -> Result<(), SensorError> {
        let error = |error| SensorError::Map { map: abi::HOME, error };
        for prefix in local.prefixes.difference(&self.present) {
            self.trie.insert(&key(*prefix), abi::HOME_LOCAL, 0).map_err(error)?;
        }
        for prefix in self.present.difference(&local.prefixes) {
            self.trie.remove(&key(*prefix)).map_err(error)?;
        }
        self.present.clone_from(&local.prefixes);
        Ok(())
    }
}

/// IPv4 is v4-mapped, so that its prefixes are 96 bits longer.
fn key((ip, bits): (IpAddr, u8)) -> Key<[u8; 16]> {
    let bits = u32::from(bits) + if ip.is_ipv4() { 96 } else { 0 };
    Key::new(bits, Address::from(ip).bytes())
}
