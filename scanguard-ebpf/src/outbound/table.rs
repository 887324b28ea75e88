//! The table of actors. Its states are those of sources, changed by the same code.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{LruHashMap, PerCpuArray},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use scanguard_common::{
    account::{self, Around, SourceState},
    actor::{MAX_ACTORS, Seen, is_login},
    address::Address,
    oracle::Reach,
    outcome::Answer,
};

use super::{
    scratch::{self, Scratch},
    tally,
};
use crate::{admission, atomics::Shared, config, epoch, opaque::opaque};

/// When the table is full, the kernel evicts actors that did nothing new lately.
#[btf_map]
static ACTORS: LruHashMap<Address, SourceState, { MAX_ACTORS as usize }> = LruHashMap::new();

/// Room to build the state of a new actor.
#[btf_map]
static FRESH_ACTOR: PerCpuArray<SourceState, 1> = PerCpuArray::new();

/// The result of [`scanguard_actor`] for an actor that was not in the table.
pub(super) const NEW_ACTOR: u32 = 1 << 31;

/// Added to the number of the actor for an attempt at an address that leads nowhere. The class stays as it is: Linux 6.1 loses
/// its bounds where it is masked.
pub(super) const NOWHERE: u32 = 1 << 31;

/// Counts an attempt for one of the two actors of a scratch. Gives how many novelties the actor has shown in this epoch
/// if this is one more, else 0; with [`NEW_ACTOR`] if it was not in the table.
///
/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_actor(hook: u32, which: u32, class: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(scratch), Some(control)) = (scratch::of(hook), config::control()) else {
        return 0;
    };
    // SAFETY: this CPU's scratch.
    let key = unsafe { Scratch::key(scratch, which & !NOWHERE) };
    let epoch = epoch::running(control);
    let mut result = 0;
    let state = match ACTORS.get_ptr_mut(key) {
        Some(state) => state,
        None => {
            result = NEW_ACTOR;
            match insert(key, epoch) {
                Some(state) => state,
                None => return 0,
            }
        }
    };
    // Nothing is known of the target until it answers.
    let around =
        Around { epoch, salt: config::salt(), sees_answers: true, is_overheard: false, is_new: true };
    // SAFETY: a value of the map, aligned to 8 bytes, valid while the program runs; other CPUs change it by the same
    // operations. The flow is this CPU's.
    let novelties = unsafe {
        let flow = &(*scratch).flow;
        if which & NOWHERE != 0 {
            account::record_nowhere::<Shared>(state, flow.destination, epoch, config::salt());
        }
        account::record::<Shared>(state, opaque(class as usize), Reach::Unknown, flow, around, || false)
    };
    if let Some(novelties) = novelties {
        result |= opaque(novelties.in_epoch as usize) as u32 & !NEW_ACTOR;
    }
    result
}

/// Whether an actor is in the table.
#[inline(always)]
pub(super) fn has(key: &Address) -> bool {
    ACTORS.get_ptr(key).is_some()
}

/// Whether an actor may enter the table, or is there: it needs an attempt before this one.
#[inline(always)]
pub(super) fn admits(key: &Address) -> bool {
    has(key) || admission::is_known(*key)
}

/// Has the first actor of a scratch in the table. Gives whether it is new there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_enter(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(scratch), Some(control)) = (scratch::of(hook), config::control()) else {
        return 0;
    };
    // SAFETY: as above.
    let key = unsafe { Scratch::key(scratch, 0) };
    let is_new = ACTORS.get_ptr_mut(key).is_none() && insert(key, epoch::running(control)).is_some();
    is_new.into()
}

/// As above.
#[inline(always)]
pub(super) fn enter(hook: u32) -> bool {
    scanguard_enter(hook) != 0
}

/// Added to an answer where one logs in.
const LOGIN: u32 = 1 << 31;

/// Counts what came of an attempt for one of the two actors of a scratch: an [`Answer`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_actor_answer(hook: u32, which: u32, answer: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(scratch), Some(control)) = (scratch::of(hook), config::control()) else {
        return 0;
    };
    // SAFETY: as above.
    let key = unsafe { Scratch::key(scratch, which) };
    let Some(state) = ACTORS.get_ptr_mut(key) else {
        return 0;
    };
    let is_login = answer & LOGIN != 0;
    let answer = match answer & !LOGIN {
        0 => Answer::SynAck,
        1 => Answer::Reset,
        _ => Answer::Unreachable,
    };
    // SAFETY: as above.
    unsafe {
        let flow = &(*scratch).flow;
        let (epoch, salt) = (epoch::running(control), config::salt());
        if is_login {
            account::record_login::<Shared>(state, flow.destination, epoch, salt);
        }
        account::record_answer::<Shared>(state, answer, flow, epoch, salt);
    }
    0
}

/// Counts that one of the two actors of a scratch said nothing in a connection.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_actor_silent(hook: u32, which: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(scratch), Some(control)) = (scratch::of(hook), config::control()) else {
        return 0;
    };
    // SAFETY: as above.
    let key = unsafe { Scratch::key(scratch, which) };
    let Some(state) = ACTORS.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: as above.
    unsafe {
        let service = (*scratch).flow.service;
        account::record_silent::<Shared>(state, service, epoch::running(control), config::salt());
    }
    0
}

/// As above.
#[inline(always)]
pub(super) fn record_silent(hook: u32, which: u32) {
    scanguard_actor_silent(hook, which);
}

/// Counts an attempt, see [`scanguard_actor`].
#[inline(always)]
pub(super) fn record(hook: u32, which: u32, class: u32) -> u32 {
    scanguard_actor(hook, which, class)
}

/// Counts an answer, see [`scanguard_actor_answer`].
#[inline(always)]
pub(super) fn record_answer(hook: u32, which: u32, answer: Answer) {
    scanguard_actor_answer(hook, which, answer as u32);
}

/// Counts that a target has answered. `is_first`: it was not known to do that.
#[inline(always)]
pub(super) fn record_open(hook: u32, which: u32, port: u16, is_first: bool) {
    let login = if is_first && is_login(port) { LOGIN } else { 0 };
    scanguard_actor_answer(hook, which, Answer::SynAck as u32 | login);
}

#[inline(always)]
fn insert(key: &Address, epoch: u32) -> Option<*mut SourceState> {
    let fresh = FRESH_ACTOR.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry of a map. Only these two fields of it are ever written, the rest stays 0.
    unsafe {
        (&raw mut (*fresh).born_ns).write(bpf_ktime_get_ns());
        (&raw mut (*fresh).epoch).write(epoch);
    }
    // SAFETY: as above; it is only read here.
    let fresh = unsafe { &*fresh };
    // If this fails, another CPU was faster, or the look-up fails.
    if ACTORS.insert(key, fresh, u64::from(BPF_NOEXIST)).is_ok() {
        tally::count(Seen::Entered);
    }
    let state = ACTORS.get_ptr_mut(key);
    if state.is_none() {
        tally::count(Seen::NoRoom);
    }
    state
}
