//! Listeners at ports, and their callers: a program that strangers call at the port at which it calls others is a peer
//! among peers.

use aya_ebpf::{btf_maps::LruHashMap, helpers::bpf_ktime_get_ns, macros::btf_map};
use scanguard_common::{
    actor::{FIRST_SERVED, HOUR_NS, Kind, MAX_SERVED, Served, served},
    address::Address,
    proof::Field,
    sketch,
};

use super::{
    actor,
    scratch::{self, Hook, Scratch},
};
use crate::{
    config,
    fields::{read, remote},
    home,
};

const HOOK: u32 = Hook::Tracepoint as u32;

#[btf_map]
static SERVED: LruHashMap<u64, Served, { MAX_SERVED as usize }> = LruHashMap::new();

/// The current task has a socket listen.
#[inline(always)]
pub(crate) fn listens(socket: *const u8) {
    scanguard_listens(socket as u64);
}

/// Somebody called a listener of our network namespace at a port, and the connection is established.
#[inline(always)]
pub(crate) fn called(peer: Address, port: u16) {
    if config::outbound() && port >= FIRST_SERVED {
        scanguard_called(served(config::namespace(), port), &raw const peer);
    }
}

/// The same in another namespace.
#[inline(always)]
pub(crate) fn called_elsewhere(socket: *const u8) {
    if config::outbound() && !config::outbound_is_own() {
        scanguard_called_elsewhere(socket as u64);
    }
}

/// The key of the listener of a socket at a port.
#[inline(always)]
unsafe fn key(socket: *const u8, port: u16) -> Option<u64> {
    // SAFETY: the caller's promise.
    unsafe {
        let namespace = read::<*const u8>(socket, Field::Namespace)?;
        Some(served(read::<u32>(namespace, Field::NamespaceNumber)?, port))
    }
}

/// As [`listens`]. A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_listens(socket: u64) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (socket, Some(scratch)) = (socket as *const u8, scratch::of(HOOK)) else {
        return 0;
    };
    // SAFETY: the kernel's socket, and this CPU's scratch.
    unsafe {
        let Some(port) = read::<u16>(socket, Field::LocalPort) else {
            return 0;
        };
        if port < FIRST_SERVED {
            return 0;
        }
        let Some(key) = key(socket, port) else {
            return 0;
        };
        if actor::find(Hook::Tracepoint, scratch, Kind::Program).is_none() {
            return 0;
        }
        let owner = *Scratch::key(scratch, 0);
        // Several sockets may listen at a port: those of both families, and those of several workers.
        if SERVED.get_ptr(key).is_some_and(|held| (*held).owner == owner) {
            return 0;
        }
        // There is room: the map evicts.
        _ = SERVED.insert(key, Served { owner, hour: 0, now: 0, before: 0 }, 0);
    }
    0
}

/// As [`called`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_called(key: u64, peer: *const Address) -> u32 {
    if !config::outbound() {
        return 0;
    }
    // SAFETY: the caller's address. The verifier knows its size, but not that it is there.
    let (Some(peer), Some(held)) = (unsafe { peer.as_ref() }, SERVED.get_ptr_mut(key)) else {
        return 0;
    };
    // This host itself is no stranger.
    if peer.is_loopback() || home::is_ours(*peer) {
        return 0;
    }
    // SAFETY: a value of the map, which other CPUs write alike. A call may get lost where two come at once.
    unsafe {
        let mut now = held.read().at(bpf_ktime_get_ns() / HOUR_NS);
        now.now |= sketch::caller_bit(*peer, config::salt());
        held.write(now);
    }
    0
}

/// As [`called_elsewhere`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_called_elsewhere(socket: u64) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let socket = socket as *const u8;
    // SAFETY: the kernel's socket; the helper checks its memory.
    let (key, peer) = unsafe {
        let Some(port) = read::<u16>(socket, Field::LocalPort).filter(|port| *port >= FIRST_SERVED) else {
            return 0;
        };
        match (key(socket, port), remote(socket)) {
            (Some(key), Some(peer)) => (key, peer),
            _ => return 0,
        }
    };
    scanguard_called(key, &raw const peer)
}
