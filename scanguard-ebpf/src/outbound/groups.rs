//! Addresses of groups of hosts.

use scanguard_common::address::Address;

/// Whether this is a group or everybody: multicast (RFC 5771, RFC 4291), the last block of IPv4, and no address at all.
#[inline(always)]
pub(super) fn is_group(address: Address) -> bool {
    match address.v4() {
        Some([first, ..]) => first >= 224 || first == 0,
        None => address.words()[0] & FIRST_BYTE == FIRST_BYTE || address == Address::UNSPECIFIED,
    }
}

/// The first byte of an address in its first word.
const FIRST_BYTE: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0, 0]);
