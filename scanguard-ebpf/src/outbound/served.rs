//! Listeners at ports, and their callers: a program that strangers call at the port at which it calls others is a peer
//! among peers.

use aya_ebpf::{
    btf_maps::{Array, LruHashMap},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
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
    argument::{Given, Place, give, given},
    config,
    fields::{namespace, read, remote},
    home,
};

const HOOK: u32 = Hook::Tracepoint as u32;

#[btf_map]
static SERVED: LruHashMap<u64, Served, { MAX_SERVED as usize }> = LruHashMap::new();

/// A bit for each port at which a program began to listen, in any namespace: most calls need no look at [`SERVED`]. Bits
/// stay, and CPUs that set two of a word at once may lose one until a listener comes again.
#[btf_map]
static LISTENED: Array<u64, { WORDS as usize + 1 }> = Array::new();

/// Words of ports. The one behind them is not 0 if a program of another namespace began to listen.
const WORDS: u32 = 1 << 10;

/// The current task has a socket listen.
#[inline(always)]
pub(crate) fn listens(socket: *const u8) {
    scanguard_listens(socket as u64);
}

/// Somebody called a listener of our network namespace at a port, and the connection is established.
#[inline(always)]
pub(crate) fn called(peer: Address, port: u16) {
    if config::outbound() && port >= FIRST_SERVED && has_listened(port) {
        scanguard_called(served(config::namespace(), port), give(Place::Peer, &peer));
    }
}

/// The same in another namespace.
#[inline(always)]
pub(crate) fn called_elsewhere(socket: *const u8) {
    if config::outbound() && !config::outbound_is_own() && word(WORDS) != 0 {
        scanguard_called_elsewhere(socket as u64);
    }
}

#[inline(always)]
fn word(index: u32) -> u64 {
    // SAFETY: an aligned number in a map.
    LISTENED.get_ptr(index).map_or(0, |word| unsafe { word.read() })
}

/// Whether a program began to listen at a port.
#[inline(always)]
fn has_listened(port: u16) -> bool {
    word(u32::from(port) >> 6) >> (port & 63) & 1 != 0
}

/// Notes that.
#[inline(always)]
fn note(port: u16, is_elsewhere: bool) {
    for (index, bits) in [(u32::from(port) >> 6, 1 << (port & 63)), (WORDS, u64::from(is_elsewhere))] {
        if let Some(word) = LISTENED.get_ptr_mut(index) {
            // SAFETY: an aligned number in a map.
            unsafe { word.write(word.read() | bits) };
        }
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
        let Some(namespace) = namespace(socket) else {
            return 0;
        };
        let key = served(namespace, port);
        if actor::find(Hook::Tracepoint, scratch, Kind::Program).is_none() {
            return 0;
        }
        note(port, namespace != config::namespace());
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
extern "C" fn scanguard_called(key: u64, peer: Given<Address>) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(peer), Some(held)) = (given::<Address>(peer), SERVED.get_ptr_mut(key)) else {
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
        let Some(port) = read::<u16>(socket, Field::LocalPort) else {
            return 0;
        };
        if port < FIRST_SERVED || !has_listened(port) {
            return 0;
        }
        match (namespace(socket), remote(socket)) {
            (Some(namespace), Some(peer)) => (served(namespace, port), peer),
            _ => return 0,
        }
    };
    scanguard_called(key, give(Place::Peer, &peer))
}
