//! Addresses that lead nowhere from here: in special-purpose networks that this host does not know.

use aya_ebpf::{btf_maps::LpmTrie, macros::btf_map};
use scanguard_common::{
    actor::{LEADS_NOWHERE, MAX_NOWHERE},
    address::Address,
};

use crate::lpm::AddressKey;

#[btf_map]
static NOWHERE: LpmTrie<Address, u32, { MAX_NOWHERE as usize }> = LpmTrie::new();

/// Whether an address is one of them.
#[inline(always)]
pub(super) fn has(address: Address) -> bool {
    NOWHERE.get(AddressKey::new(address).key()).copied() == Some(LEADS_NOWHERE)
}
