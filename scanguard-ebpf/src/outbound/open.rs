//! Connections that were asked for and have no answer yet, by their sockets: whoever runs when the answer comes is not
//! the actor. Those with new targets stay until they end, so that it is known whether anything was said in them.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{
    actor::{OPEN_PLACES, Seen},
    address::Address,
    flow::stir,
};

use super::tally;

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
    /// For which of the two the target is new: a bit for each. With [`ANSWERED`], it has answered.
    pub(super) fresh: u32,
    /// The remote port.
    pub(super) port: u16,
    /// Explicit padding.
    pub(super) reserved: u16,
}

/// See [`Open::fresh`].
pub(super) const ANSWERED: u32 = 1 << 31;

/// One at its place.
#[repr(C)]
struct Place {
    /// The socket; 0: nobody waits.
    socket: u64,
    open: Open,
}

/// Each at a place that depends on its socket. One that takes the place of another leaves what comes of that unknown.
#[btf_map]
static OPEN: Array<Place, { OPEN_PLACES as usize }> = Array::new();

#[inline(always)]
fn place(socket: u64) -> Option<*mut Place> {
    OPEN.get_ptr_mut((stir(0, socket) >> 32) as u32 & (OPEN_PLACES - 1))
}

/// Keeps one.
#[inline(always)]
pub(super) fn keep(socket: u64, open: *const Open) {
    let Some(place) = place(socket) else {
        return;
    };
    // SAFETY: a value of a map. It belongs to no socket while it is written, so that another CPU does not take it.
    unsafe {
        let of = &raw mut (*place).socket;
        let before = of.read_volatile();
        let waits = (&raw const (*place).open.fresh).read() & ANSWERED == 0;
        if before != 0 && before != socket && waits {
            tally::count(Seen::Displaced);
        }
        of.write_volatile(0);
        (&raw mut (*place).open).write(open.read());
        of.write_volatile(socket);
    }
}

/// The one of this socket has answered.
#[inline(always)]
pub(super) fn keep_answered(socket: u64, open: *mut Open) {
    // SAFETY: this CPU's scratch.
    unsafe {
        let fresh = &raw mut (*open).fresh;
        fresh.write(fresh.read() | ANSWERED);
    }
    // SAFETY: an aligned number in a map. One that came meanwhile keeps the place.
    if place(socket).is_some_and(|place| unsafe { (&raw const (*place).socket).read_volatile() } == 0) {
        keep(socket, open);
    }
}

/// Whether one of this socket may be there.
#[inline(always)]
pub(super) fn has(socket: u64) -> bool {
    // SAFETY: an aligned number in a map.
    place(socket).is_some_and(|place| unsafe { (&raw const (*place).socket).read_volatile() } == socket)
}

/// Takes the one of a socket. Gives whether there is one.
#[inline(always)]
pub(super) fn take(socket: u64, open: *mut Open) -> bool {
    let Some(place) = place(socket) else {
        return false;
    };
    // SAFETY: as above.
    unsafe {
        let of = &raw mut (*place).socket;
        if of.read_volatile() != socket {
            return false;
        }
        open.write((&raw const (*place).open).read());
        let is_whole = of.read_volatile() == socket;
        of.write_volatile(0);
        is_whole
    }
}
