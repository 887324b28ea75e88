//! Which addresses are ours, in the map where the kernel program looks them up.

use std::{collections::BTreeMap, net::IpAddr};

use aya::maps::{MapData, lpm_trie::LpmTrie};
use ipnet::IpNet;
use scanguard_common::abi;

use super::{SensorError, trie};
use crate::network::Local;

/// The trie of addresses, and its contents.
pub(super) struct Home {
    trie: LpmTrie<MapData, [u8; 16], u32>,
    routed: Vec<IpNet>,
    present: BTreeMap<(IpAddr, u8), u32>,
}

impl Home {
    /// Takes the trie, which may have entries already.
    pub(super) fn new(trie: LpmTrie<MapData, [u8; 16], u32>) -> Result<Self, SensorError> {
        let mut present = BTreeMap::new();
        for entry in &trie {
            let (key, whose) = entry.map_err(|error| SensorError::Map { map: abi::HOME, error })?;
            if let Some(net) = trie::net(key.prefix_len(), key.data()) {
                present.insert((net.addr(), net.prefix_len()), whose);
            }
        }
        Ok(Self { trie, routed: Vec::new(), present })
    }

    /// Sets the networks that are routed to this host. They enter the trie together with the local ones.
    pub(super) fn set_routed(&mut self, routed: &[IpNet]) {
        self.routed = routed.to_vec();
    }

    /// Makes the trie have exactly these local networks and the routed ones. Entries that stay are not touched
    /// meanwhile.
    pub(super) fn set(&mut self, local: &Local) -> Result<(), SensorError> {
        let error = |error| SensorError::Map { map: abi::HOME, error };
        let wanted = wanted(&self.routed, local);
        for (prefix, whose) in &wanted {
            if self.present.get(prefix) != Some(whose) {
                self.trie.insert(&trie::key(prefix.0, prefix.1), whose, 0).map_err(error)?;
            }
        }
        for prefix in self.present.keys().filter(|prefix| !wanted.contains_key(prefix)) {
            self.trie.remove(&trie::key(prefix.0, prefix.1)).map_err(error)?;
        }
        self.present = wanted;
        Ok(())
    }
}

/// To whom each prefix belongs. A network that is both routed to this host and its own counts as its own. Of two
/// prefixes with the same address, the trie uses the longer one.
fn wanted(routed: &[IpNet], local: &Local) -> BTreeMap<(IpAddr, u8), u32> {
    let routed = routed.iter().map(|net| ((net.network(), net.prefix_len()), abi::HOME_ROUTED));
    routed.chain(local.prefixes.iter().map(|prefix| (*prefix, abi::HOME_LOCAL))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_both_routed_and_local_is_local() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let prefix = |text| (net(text).addr(), net(text).prefix_len());
        let local =
            Local { prefixes: [prefix("10.79.0.1/32"), prefix("10.78.0.0/24")].into(), forwards: true };
        let wanted = wanted(&[net("10.78.0.0/24"), net("10.79.0.0/24")], &local);
        let expected = [
            (prefix("10.78.0.0/24"), abi::HOME_LOCAL),
            (prefix("10.79.0.0/24"), abi::HOME_ROUTED),
            (prefix("10.79.0.1/32"), abi::HOME_LOCAL),
        ];
        assert_eq!(wanted, expected.into());
    }
}
