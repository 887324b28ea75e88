//! Counts what an actor asks for, if it is new to the actor.

use scanguard_common::{
    actor::{Seen, target},
    outcome::ProbeClass,
};

use super::{
    identity, nowhere, open,
    scratch::{self, Scratch},
    table, tally, targets,
};
use crate::{config, home};

/// The bit of [`open::Open::fresh`] for the program.
pub(super) const PROGRAM: u32 = 1;
/// As above, for its control group.
pub(super) const GROUP: u32 = 2;

/// From this number of novelties in an epoch on, the identity is read anew at each power of two: the finding names a
/// process that takes part.
const AGAIN: u32 = 8;

/// Counts an attempt that lies in a scratch: the actors and the flow. What came of it is known later if there is a socket.
#[inline(always)]
pub(super) fn count(hook: u32, socket: u64, class: ProbeClass, seen: Seen) {
    scanguard_attempt(hook, socket, class as u32, seen as u32);
}

/// As above. A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_attempt(hook: u32, socket: u64, class: u32, seen: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    let salt = config::salt();
    // SAFETY: this CPU's scratch.
    let (fresh, nowhere) = unsafe {
        let flow = &(*scratch).flow;
        let first = target(*Scratch::key(scratch, 0), flow.destination, flow.service, salt);
        let program = targets::look(first);
        if program == targets::ANSWERED {
            tally::count(Seen::Known);
            return 0;
        }
        (&raw mut (*scratch).open.names[0]).write(first);
        let mut fresh = 0;
        if program == targets::NEW {
            // Asked once for a target.
            if home::is_ours(flow.destination) {
                tally::count(Seen::Own);
                return 0;
            }
            targets::asked(first);
            fresh = PROGRAM;
        }
        if has_group(scratch) {
            let second = target(*Scratch::key(scratch, 1), flow.destination, flow.service, salt);
            (&raw mut (*scratch).open.names[1]).write(second);
            if targets::look(second) == targets::NEW {
                targets::asked(second);
                fresh |= GROUP;
            }
        }
        (&raw mut (*scratch).open.fresh).write(fresh);
        if socket != 0 {
            (&raw mut (*scratch).open.remote).write(flow.destination);
            (&raw mut (*scratch).open.port).write(flow.service.port);
            open::keep(socket, &raw const (*scratch).open);
        }
        let is_nowhere = fresh != 0 && class == ProbeClass::Syn as u32 && nowhere::has(flow.destination);
        (fresh, if is_nowhere { table::NOWHERE } else { 0 })
    };
    tally::count_index(if fresh == 0 { Seen::Known as u32 } else { seen });
    let of_program = if fresh & PROGRAM != 0 { table::record(hook, nowhere, class) } else { 0 };
    let of_group = if fresh & GROUP != 0 { table::record(hook, 1 | nowhere, class) } else { 0 };
    if (is_due(of_program) || is_due(of_group)) && identity::take(hook) {
        if is_due(of_program) {
            identity::keep(scratch, 0);
        }
        if is_due(of_group) {
            identity::keep(scratch, 1);
        }
    }
    0
}

/// Whether the attempt counts for a control group as a whole, too.
///
/// # Safety
/// The scratch is valid.
#[inline(always)]
pub(super) unsafe fn has_group(scratch: *const Scratch) -> bool {
    // SAFETY: the caller's promise.
    unsafe { Scratch::key(scratch, 1).words()[0] != 0 }
}

/// Whether the identity has to be read.
#[inline(always)]
const fn is_due(recorded: u32) -> bool {
    if recorded & table::NEW_ACTOR != 0 {
        return true;
    }
    recorded >= AGAIN && recorded & (recorded - 1) == 0
}
