//! Connections that were asked for and have no answer yet, by their sockets: whoever runs when the answer comes is not
//! the actor.

use aya_ebpf::{btf_maps::LruHashMap, macros::btf_map};
use scanguard_common::address::Address;

/// How many connections can wait at once. When there are more, what comes of the oldest stays unknown.
const MAX_OPEN: usize = 32_768;

/// One that waits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Open {
    /// The actor: the program, and its control group.
    pub(super) keys: [Address; 2],
    /// The names of the target for both.
    pub(super) names: [u64; 2],
    /// The remote address: the memory of a socket is used again.
    pub(super) remote: Address,
    /// For which of the two the target is new: a bit for each.
    pub(super) fresh: u32,
    /// The remote port.
    pub(super) port: u16,
    /// Explicit padding.
    pub(super) reserved: u16,
}

#[btf_map]
static OPEN: LruHashMap<u64, Open, MAX_OPEN> = LruHashMap::new();

/// Keeps one.
#[inline(always)]
pub(super) fn keep(socket: u64, open: &Open) {
    // There is room: the map evicts.
    _ = OPEN.insert(socket, open, 0);
}

/// The one of a socket.
#[inline(always)]
pub(super) fn of(socket: u64) -> Option<*const Open> {
    OPEN.get_ptr(socket)
}

/// It does not wait any more.
#[inline(always)]
pub(super) fn done(socket: u64) {
    _ = OPEN.remove(socket);
}
