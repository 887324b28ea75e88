//! Which sources did something: a ring that the agent reads, and the program that reads their states for it.
//!
//! The ring is never emptied: its count only grows, so that the agent knows by the count alone what is new to it, and
//! what was overwritten before it came. No probe has to ask whether there is room.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_ABORTED},
    btf_maps::Array,
    helpers::generated::bpf_loop,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use scanguard_common::{
    abi::{DEFAULT_MAX_SOURCES, READ_AT_ONCE, ReadRequest, Reading, change_places},
    account::SourceState,
    address::Address,
};

use crate::{account, config};

#[btf_map]
static CHANGES: Array<Address, { change_places(DEFAULT_MAX_SOURCES) as usize }> = Array::new();

#[btf_map]
static CHANGE_COUNT: Array<u64, 1> = Array::new();

#[btf_map]
static READ: Array<Reading, { READ_AT_ONCE as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Writes a source into the ring.
#[inline(always)]
pub(crate) fn list(source: &Address) {
    let Some(count) = CHANGE_COUNT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an aligned number in a map.
    let number = unsafe { take_number(count) };
    if let Some(place) = CHANGES.get_ptr_mut(number as u32 & config::changes_mask()) {
        // SAFETY: an entry of a map. An agent that reads it half written finds nobody by it, and finds the source in
        // the next epoch: see `account`.
        unsafe { place.write(*source) };
    }
}

/// Adds 1 and gives what it was before, by an instruction that the compiler does not use for this target (Linux 5.12).
///
/// # Safety
/// `count` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn take_number(count: *mut u64) -> u64 {
    let mut number = 1u64;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "{number} = atomic_fetch_add((u64 *)({count} + 0), {number})",
            number = inout(reg) number,
            count = in(reg) count,
        );
    }
    number
}

/// How far a run has come.
struct Walk {
    first: u64,
    found: u32,
}

/// Copies the states of the sources that are asked for to the beginning of [`READ`]; how many that were. Sources that are
/// no longer in the table are left out.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_read(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<ReadRequest>() > end {
        return XDP_ABORTED;
    }
    // SAFETY: within the frame, as checked.
    let request = unsafe { (start as *const ReadRequest).read_unaligned() };
    let mut walk = Walk { first: request.first, found: 0 };
    let count = (request.count as u32).min(READ_AT_ONCE);
    // What is read lies all over a large memory. Where each source's state is asked for as soon as that of the source before
    // it, rather than after that was copied, the processor waits for several at once.
    // SAFETY: functions of the kind that the helper calls, with what they take.
    unsafe {
        bpf_loop(count, touch_one as *mut c_void, (&raw mut walk).cast(), 0);
        bpf_loop(count, read_one as *mut c_void, (&raw mut walk).cast(), 0);
    }
    walk.found
}

/// Has one come into the cache; 0: to be called for the next.
extern "C" fn touch_one(index: u64, walk: *mut Walk) -> u64 {
    const LINE: usize = 64;
    // SAFETY: the caller's.
    let first = unsafe { (*walk).first };
    let place = first.wrapping_add(index) as u32 & config::changes_mask();
    if let Some(state) = CHANGES.get(place).and_then(account::of) {
        let mut offset = 0;
        while offset < size_of::<SourceState>() {
            // SAFETY: within the state.
            let _touched = unsafe { state.byte_add(offset).cast::<u64>().read_volatile() };
            offset += LINE;
        }
    }
    0
}

/// Copies one; 0: to be called for the next.
extern "C" fn read_one(index: u64, walk: *mut Walk) -> u64 {
    // SAFETY: the caller's.
    let walk = unsafe { &mut *walk };
    let place = walk.first.wrapping_add(index) as u32 & config::changes_mask();
    let (Some(source), Some(to)) = (CHANGES.get(place), READ.get_ptr_mut(walk.found)) else {
        return 0;
    };
    let source = *source;
    let Some(state) = account::of(&source) else {
        return 0;
    };
    // SAFETY: entries of maps, of the types that these have.
    unsafe {
        (&raw mut (*to).source).write(source);
        copy(&raw mut (*to).state, state);
    }
    // Another source may have been given this entry meanwhile.
    if account::of(&source) == Some(state) {
        walk.found += 1;
    }
    0
}

/// Word by word: the compiler would make a call of memcpy of it, which goes byte by byte. Volatile for that reason.
///
/// # Safety
/// Both are valid and aligned.
#[inline(always)]
unsafe fn copy(to: *mut SourceState, from: *const SourceState) {
    const WORDS: usize = size_of::<SourceState>() / size_of::<u64>();
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    let mut place = 0;
    while place < WORDS {
        // SAFETY: a word of the state, as the caller promises.
        unsafe { to.add(place).write_volatile(from.add(place).read_volatile()) };
        place += 1;
    }
}
