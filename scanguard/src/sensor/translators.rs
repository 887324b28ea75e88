//! The prefixes of translators that the operator names, in the map where the kernel program looks them up.

use std::{collections::BTreeSet, net::IpAddr};

use aya::maps::{MapData, lpm_trie::LpmTrie};
use ipnet::{IpNet, Ipv6Net};
use scanguard_common::abi;

use super::{SensorError, missing, trie};

/// The trie, and the prefixes in it.
pub(super) struct Translators {
    trie: LpmTrie<MapData, [u8; 16], u32>,
    present: BTreeSet<Ipv6Net>,
}

impl Translators {
    /// Takes the trie, which may have entries already.
    pub(super) fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map = ebpf.take_map(abi::TRANSLATORS).ok_or_else(|| missing(abi::TRANSLATORS))?;
        let trie = LpmTrie::try_from(map).map_err(error)?;
        let mut present = BTreeSet::new();
        for key in trie.keys() {
            let key = key.map_err(error)?;
            if let Some(IpNet::V6(prefix)) = trie::net(key.prefix_len(), key.data()) {
                present.insert(prefix);
            }
        }
        Ok(Self { trie, present })
    }

    /// The prefixes in it.
    pub(super) fn present(&self) -> Vec<Ipv6Net> {
        self.present.iter().copied().collect()
    }

    /// Makes the trie have exactly these prefixes. Those that go, go first, so that there is room.
    pub(super) fn set(&mut self, prefixes: &[Ipv6Net]) -> Result<(), SensorError> {
        let wanted: BTreeSet<_> = prefixes.iter().copied().collect();
        let key = |prefix: &Ipv6Net| trie::key(IpAddr::V6(prefix.network()), prefix.prefix_len());
        let gone: Vec<_> = self.present.difference(&wanted).copied().collect();
        for prefix in gone {
            self.trie.remove(&key(&prefix)).map_err(error)?;
            self.present.remove(&prefix);
        }
        for prefix in wanted {
            if self.present.insert(prefix) {
                self.trie.insert(&key(&prefix), u32::from(prefix.prefix_len()), 0).map_err(error)?;
            }
        }
        Ok(())
    }
}

fn error(error: aya::maps::MapError) -> SensorError {
    SensorError::Map { map: abi::TRANSLATORS, error }
}
