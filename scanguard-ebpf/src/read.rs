//! The program that the agent runs to read the states of many sources at once.

#[cfg(not(feature = "old"))]
use core::ffi::c_void;

#[cfg(not(feature = "old"))]
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_ABORTED},
    btf_maps::Array,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use scanguard_common::{
    abi::{READ_AT_ONCE, ReadRequest, Reading},
    account::SourceState,
};

use crate::{changes, sources};

#[btf_map]
static READ: Array<Reading, { READ_AT_ONCE as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The progress of a run.
#[cfg(not(feature = "old"))]
struct Walk {
    first: u64,
    found: u32,
}

/// Copies the states of the requested sources to the beginning of [`READ`], and returns their number. Sources that are
/// no longer in the table are left out.
#[cfg_attr(not(feature = "old"), xdp(frags))]
#[cfg_attr(feature = "old", xdp)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_read(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<ReadRequest>() > end {
        return XDP_ABORTED;
    }
    // SAFETY: within the frame, as checked.
    let request = unsafe { (start as *const ReadRequest).read_unaligned() };
    let count = (request.count as u32).min(READ_AT_ONCE);
    read(request.first, count)
}

/// Reads so many from this one on. Gives how many were found.
#[cfg(not(feature = "old"))]
#[inline(always)]
fn read(first: u64, count: u32) -> u32 {
    let mut walk = Walk { first, found: 0 };
    // The states lie scattered in a large memory. The first pass asks for the state of each source right after that of
    // the source before it, without waiting for a copy. So the processor waits for several states at once.
    // SAFETY: functions of the kind that the helper calls, with the arguments that they take.
    unsafe {
        bpf_loop(count, touch_one as *mut c_void, (&raw mut walk).cast(), 0);
        bpf_loop(count, read_one as *mut c_void, (&raw mut walk).cast(), 0);
    }
    walk.found
}

/// The same before Linux 5.17, which has no such helper.
#[cfg(feature = "old")]
#[inline(always)]
fn read(first: u64, count: u32) -> u32 {
    let (mut index, mut found) = (0, 0);
    while index < READ_AT_ONCE {
        if index >= count {
            break;
        }
        found += scanguard_read_one(first.wrapping_add(index.into()), found);
        index += 1;
    }
    found
}

/// As [`copy_one`]. A global function, for the reason that [`crate::judge`] gives.
#[cfg(feature = "old")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_read_one(number: u64, found: u32) -> u32 {
    copy_one(number, found).into()
}

/// Loads one state into the cache. 0: the helper calls it for the next.
#[cfg(not(feature = "old"))]
extern "C" fn touch_one(index: u64, walk: *mut Walk) -> u64 {
    const LINE: usize = 64;
    // SAFETY: the caller's.
    let first = unsafe { (*walk).first };
    if let Some(state) = changes::listed(first.wrapping_add(index)).and_then(sources::of) {
        let mut offset = 0;
        while offset < size_of::<SourceState>() {
            // SAFETY: within the state.
            let _touched = unsafe { state.byte_add(offset).cast::<u64>().read_volatile() };
            offset += LINE;
        }
    }
    0
}

/// Copies one state. 0: the helper calls it for the next.
#[cfg(not(feature = "old"))]
extern "C" fn read_one(index: u64, walk: *mut Walk) -> u64 {
    // SAFETY: the caller's.
    let walk = unsafe { &mut *walk };
    if copy_one(walk.first.wrapping_add(index), walk.found) {
        walk.found += 1;
    }
    0
}

/// Copies the state of the source with a number in the list to a place. Gives whether it was found.
#[inline(always)]
fn copy_one(number: u64, place: u32) -> bool {
    let (Some(source), Some(to)) = (changes::listed(number), READ.get_ptr_mut(place)) else {
        return false;
    };
    let source = *source;
    let Some(state) = sources::of(&source) else {
        return false;
    };
    // SAFETY: entries of maps, of the types that these have.
    unsafe {
        (&raw mut (*to).source).write(source);
        copy(&raw mut (*to).state, state);
    }
    // Meanwhile, another source may have got this entry.
    sources::of(&source) == Some(state)
}

/// Copies word by word. The writes are volatile: otherwise the compiler would call memcpy, which copies single bytes.
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
