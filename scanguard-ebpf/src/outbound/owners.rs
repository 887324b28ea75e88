//! The actors that opened raw sockets, and those that connected datagram sockets, by the numbers of the sockets
//! (cookies). When a packet of such a socket leaves, another task may run: it had to wait for the neighbour's address.

use aya_ebpf::{btf_maps::LruHashMap, macros::btf_map};
use scanguard_common::address::Address;

/// How many sockets are kept. For others, the current task counts as the owner.
const MAX_OWNERS: usize = 8_192;

#[btf_map]
static OWNERS: LruHashMap<u64, [Address; 2], MAX_OWNERS> = LruHashMap::new();

/// Notes the owner of a socket: the program, and its control group.
#[inline(always)]
pub(super) fn note(cookie: u64, keys: &[Address; 2]) {
    // There is room: the map evicts.
    _ = OWNERS.insert(cookie, keys, 0);
}

/// The owner of a socket.
#[inline(always)]
pub(super) fn of(cookie: u64) -> Option<*const [Address; 2]> {
    OWNERS.get_ptr(cookie)
}
