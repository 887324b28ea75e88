//! Keys of tries.

use aya_ebpf::btf_maps::lpm_trie::Key;
use scanguard_common::address::Address;

/// The key of one address. The address lies four bytes into a key. The stack is written in words of eight bytes, and
/// the verifier accepts those only where they are aligned.
#[repr(C, align(8))]
pub(crate) struct AddressKey {
    unused: u32,
    key: Key<Address>,
}

impl AddressKey {
    #[inline(always)]
    pub(crate) fn new(address: Address) -> Self {
        Self { unused: 0, key: Key::new(128, address) }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> &Key<Address> {
        &self.key
    }
}
