//! The program that the agent runs to read the states of many sources at once.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_ABORTED},
    btf_maps::Array,
    helpers::generated::bpf_loop,
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
struct Walk {
    first: u64,
    found: u32,
}

/// Copies the states of the requested sources to the beginning of [`READ`], and returns their number. Sources that are
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
    // The states lie scattered in a large memory. The first pass asks for the state of each source right after that of
    // the source before it, without waiting for a copy. So the processor waits for several states at once.
    // SAFETY: functions of the kind that the helper calls, with the arguments that they take.
    unsafe {
        bpf_loop(count, touch_one as *mut c_void, (&raw mut walk).cast(), 0);
        bpf_loop(count, read_one as *mut c_void, (&raw mut walk).cast(), 0);
    }
    walk.found
}

/// Loads one state into the cache. 0: the helper calls it for the next.
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
extern "C" fn read_one(index: u64, walk: *mut Walk) -> u64 {
    // SAFETY: the caller's.
    let walk = unsafe { &mut *walk };
    let listed = changes::listed(walk.first.wrapping_add(index));
    let (Some(source), Some(to)) = (listed, READ.get_ptr_mut(walk.found)) else {
        return 0;
    };
    let source = *source;
    let Some(state) = sources::of(&source) else {
        return 0;
    };
    // SAFETY: entries of maps, of the types that these have.
    unsafe {
        (&raw mut (*to).source).write(source);
        copy(&raw mut (*to).state, state);
    }
    // Meanwhile, another source may have got this entry.
    if sources::of(&source) == Some(state) {
        walk.found += 1;
    }
    0
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
