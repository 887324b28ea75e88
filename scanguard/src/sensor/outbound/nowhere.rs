//! Networks that lead nowhere, in the map where the programs look them up.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{MapData, lpm_trie::LpmTrie},
};
use ipnet::IpNet;
use scanguard_common::actor::{LEADS_NOWHERE, MAX_NOWHERE, NOWHERE};

use super::super::{SensorError, missing, trie};
use crate::outbound::special;

/// The trie, and its contents.
pub(super) struct Nowhere {
    trie: LpmTrie<MapData, [u8; 16], u32>,
    present: BTreeMap<IpNet, bool>,
}

impl Nowhere {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        let trie = ebpf.take_map(NOWHERE).ok_or_else(|| missing(NOWHERE))?;
        let trie = LpmTrie::try_from(trie).map_err(|error| SensorError::Map { map: NOWHERE, error })?;
        Ok(Self { trie, present: BTreeMap::new() })
    }

    /// Makes the trie say what leads nowhere where these networks are known. What stays is not touched meanwhile.
    pub(super) fn set_near(&mut self, near: &[IpNet]) -> Result<(), SensorError> {
        let error = |error| SensorError::Map { map: NOWHERE, error };
        let wanted = special::nowhere(near, MAX_NOWHERE as usize);
        let key = |net: &IpNet| trie::key(net.network(), net.prefix_len());
        for net in self.present.keys().filter(|net| !wanted.contains_key(net)) {
            self.trie.remove(&key(net)).map_err(error)?;
        }
        for (net, leads) in wanted.iter().filter(|(net, leads)| self.present.get(*net) != Some(*leads)) {
            let number = if *leads { LEADS_NOWHERE } else { 0 };
            self.trie.insert(&key(net), number, 0).map_err(error)?;
        }
        self.present = wanted;
        Ok(())
    }
}
