//! Connections that sockets of this host ask for, in all of its network namespaces.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use scanguard_common::{
    actor::{Kind, Seen},
    actor_field::{ActorField, SOCKET_HEAD},
    address::Address,
    outcome::{Answer, ProbeClass, Service},
    proof::Field,
    wire::protocol,
};

use super::{
    actor, attempt, open,
    scratch::{self, Hook, Scratch},
    table, tally, targets,
};
use crate::{
    config,
    fields::{AF_INET, AF_INET6, read_actor},
};

/// `ECONNREFUSED`.
const REFUSED: u32 = 111;
/// `ENETUNREACH` and `EHOSTUNREACH`.
const UNREACHABLE: [u32; 2] = [101, 113];

const HOOK: u32 = Hook::Tracepoint as u32;

/// The current task has a socket ask for a connection.
#[inline(always)]
pub(crate) fn opens(socket: *const u8) {
    scanguard_opens(socket as u64);
}

/// The other side accepted.
#[inline(always)]
pub(crate) fn came_about(socket: *const u8) {
    scanguard_came_of(socket as u64, 1);
}

/// A connection, or a socket without one, has come to its end.
#[inline(always)]
pub(crate) fn ended(socket: *const u8) {
    if open::has(socket as u64) {
        scanguard_over(socket as u64);
    }
}

/// It did not come to a connection.
#[inline(always)]
pub(crate) fn failed(socket: *const u8) {
    scanguard_came_of(socket as u64, 0);
}

/// As [`opens`]. A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_opens(socket: u64) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(HOOK) else {
        return 0;
    };
    // SAFETY: this CPU's scratch; the kernel's socket, whose memory the helper checks.
    unsafe {
        let Some(own) = remote(socket as *const u8, scratch) else {
            tally::count(Seen::Unreadable);
            return 0;
        };
        if own {
            tally::count(Seen::Own);
            return 0;
        }
        if actor::find(Hook::Tracepoint, scratch, Kind::Program).is_none() {
            return 0;
        }
    }
    attempt::count(HOOK, socket, ProbeClass::Syn, Seen::New);
    0
}

/// Writes the remote side of a socket into the flow of a scratch. Gives whether it is this host itself, as far as the
/// socket shows it: who calls one of its own addresses does so from that address.
///
/// The beginning of a socket is read at once: a read for each field takes several times as long.
#[inline(always)]
unsafe fn remote(socket: *const u8, scratch: *mut Scratch) -> Option<bool> {
    // SAFETY: the caller's promise. The offsets are constants to the verifier, and within what was read.
    unsafe {
        let head = (&raw mut (*scratch).head).cast::<u8>();
        if bpf_probe_read_kernel(head.cast(), SOCKET_HEAD as u32, socket.cast()) != 0 {
            return None;
        }
        let port = u16::from_be(of::<u16>(head, Field::RemotePort));
        let flow = &raw mut (*scratch).flow;
        (&raw mut (*flow).service).write(Service { protocol: protocol::TCP, port });
        (&raw mut (*flow).source_port).write(0);
        let (local, remote) = match of::<u16>(head, Field::Family) {
            AF_INET => (
                Address::from_v4(&of::<u32>(head, Field::LocalV4).to_ne_bytes()),
                Address::from_v4(&of::<u32>(head, Field::RemoteV4).to_ne_bytes()),
            ),
            AF_INET6 => (
                Address::from_words(of(head, Field::LocalV6)),
                Address::from_words(of(head, Field::RemoteV6)),
            ),
            _ => return None,
        };
        (&raw mut (*flow).destination).write(remote);
        Some(remote.is_loopback() || remote == local)
    }
}

/// Whether the attempt that the scratch holds is one of this socket: the memory of one that is gone may be used again.
///
/// # Safety
/// The kernel's socket, and this CPU's scratch.
#[inline(always)]
unsafe fn is_same(socket: *const u8, scratch: *mut Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let open = &raw const (*scratch).open;
        remote(socket, scratch).is_some()
            && (*open).remote == (*scratch).flow.destination
            && (*open).port == (*scratch).flow.service.port
    }
}

/// A field in the beginning of a socket.
#[inline(always)]
unsafe fn of<T: Copy>(head: *const u8, field: Field) -> T {
    // SAFETY: the caller's promise.
    unsafe { head.add(config::offset(field)).cast::<T>().read_volatile() }
}

/// Something came of an attempt: a connection (`is_answered`), or nothing. Whoever runs now is not the actor.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_came_of(socket: u64, is_answered: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(HOOK) else {
        return 0;
    };
    // SAFETY: this CPU's scratch, a value of a map, and the kernel's socket, whose memory the helper checks.
    unsafe {
        if !open::take(socket, &raw mut (*scratch).open) {
            if is_answered != 0 && remote(socket as *const u8, scratch) == Some(false) {
                tally::count(Seen::Again);
            }
            return 0;
        }
        if !is_same(socket as *const u8, scratch) {
            return 0;
        }
        let open = &raw const (*scratch).open;
        let fresh = (*open).fresh;
        let has_group = attempt::has_group(scratch);
        if is_answered != 0 {
            tally::count(Seen::Answered);
            let port = (*open).port;
            // A target that the program knows to answer is not kept.
            targets::answered((*open).names[0]);
            table::record_open(HOOK, 0, port, true);
            if has_group {
                let name = (*open).names[1];
                let is_first = targets::look(name) != targets::ANSWERED;
                targets::answered(name);
                table::record_open(HOOK, 1, port, is_first);
            }
            if fresh != 0 {
                open::keep_answered(socket, &raw mut (*scratch).open);
            }
            return 0;
        }
        tally::count(Seen::Failed);
        let error = |field| read_actor::<u32>(socket as *const u8, field).unwrap_or(0);
        let (hard, soft) = (error(ActorField::SocketError), error(ActorField::SoftError));
        // A process that gives up takes no error.
        let error = if hard == 0 { soft } else { hard };
        let answer = if error == REFUSED {
            Answer::Reset
        } else if error == UNREACHABLE[0] || error == UNREACHABLE[1] {
            Answer::Unreachable
        } else {
            return 0;
        };
        // Who asks once more learns nothing new by that.
        if fresh & attempt::PROGRAM != 0 {
            table::record_answer(HOOK, 0, answer);
        }
        if fresh & attempt::GROUP != 0 {
            table::record_answer(HOOK, 1, answer);
        }
    }
    0
}

/// A connection with a new target has ended. If this host has said nothing in it, that is counted: clients ask for a
/// service in order to say something.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_over(socket: u64) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(HOOK) else {
        return 0;
    };
    // SAFETY: as above.
    unsafe {
        if !open::take(socket, &raw mut (*scratch).open) {
            return 0;
        }
        let fresh = (*scratch).open.fresh;
        if fresh & open::ANSWERED == 0 || !is_same(socket as *const u8, scratch) {
            return 0;
        }
        // If the number cannot be read, something was said.
        if read_actor::<u64>(socket as *const u8, ActorField::Sent) != Some(0) {
            return 0;
        }
        tally::count(Seen::Silent);
        if fresh & attempt::PROGRAM != 0 {
            table::record_silent(HOOK, 0);
        }
        if fresh & attempt::GROUP != 0 {
            table::record_silent(HOOK, 1);
        }
    }
    0
}
