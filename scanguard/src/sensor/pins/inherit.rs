//! The bans and allow list that are copied from maps of another layout.

use std::{collections::BTreeSet, path::Path};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use ipnet::IpNet;
use scanguard_common::{
    abi::{self, Ban},
    address::Address,
};

use super::{
    super::trie,
    PinsError,
    meta::{Meta, MetaMap},
};

/// Bans, the allow list and the mode of the gate, from maps of another layout. Shields are not copied: a source that
/// goes on probing gets a new one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inherited {
    pub(in crate::sensor) bans: Vec<(IpNet, Ban)>,
    pub(in crate::sensor) allowed: BTreeSet<IpNet>,
    /// As in [`abi::Control`].
    pub(in crate::sensor) gate: u32,
    /// As above.
    pub(in crate::sensor) drop_all: u32,
}

impl Inherited {
    /// Reads the pins in a directory.
    pub(super) fn read(directory: &Path, meta: &MetaMap) -> Result<Self, PinsError> {
        let meta = meta.value();
        let mut inherited = Self { gate: meta.gate, drop_all: meta.drop_all, ..Self::default() };
        if meta.has_known_bans() {
            inherited.bans = exact(directory, meta)?;
            inherited.bans.extend(networks(directory)?);
        } else {
            tracing::warn!(
                "{}: bans of that version are not known to this one, and are not carried over",
                directory.display()
            );
        }
        let allowed: Vec<(IpNet, u32)> = trie(directory, abi::ALLOWED)?;
        inherited.allowed = allowed.into_iter().map(|(net, _)| net).collect();
        Ok(inherited)
    }
}

fn exact(directory: &Path, meta: &Meta) -> Result<Vec<(IpNet, Ban)>, PinsError> {
    let path = directory.join(abi::BANS);
    let error = |error: MapError| PinsError::map(&path, &error);
    let bans: HashMap<_, [u8; 16], Ban> = HashMap::try_from(open(&path)?).map_err(error)?;
    bans.iter()
        .map(|entry| {
            let (key, ban) = entry.map_err(error)?;
            let address = Address::from_v6(&key);
            let bits =
                if address.v4().is_some() { 32 } else { u8::try_from(meta.ipv6_prefix).unwrap_or(128) };
            Ok((IpNet::new_assert(address.to_ip(), bits), ban))
        })
        .collect()
}

fn networks(directory: &Path) -> Result<Vec<(IpNet, Ban)>, PinsError> {
    trie(directory, abi::BANNED_NETWORKS)
}

fn trie<V: aya::Pod>(directory: &Path, name: &str) -> Result<Vec<(IpNet, V)>, PinsError> {
    let path = directory.join(name);
    let error = |error: MapError| PinsError::map(&path, &error);
    let trie: LpmTrie<_, [u8; 16], V> = LpmTrie::try_from(open(&path)?).map_err(error)?;
    let entries: Vec<_> = trie.iter().collect::<Result<_, _>>().map_err(error)?;
    Ok(entries
        .into_iter()
        .filter_map(|(key, value)| Some((trie::net(key.prefix_len(), key.data())?, value)))
        .collect())
}

fn open(path: &Path) -> Result<Map, PinsError> {
    let map = MapData::from_pin(path).and_then(Map::from_map_data);
    map.map_err(|error| PinsError::map(path, &error))
}
