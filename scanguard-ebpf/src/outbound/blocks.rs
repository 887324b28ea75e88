//! Actors that may not ask for anything for a while. Blocks end by the kernel's clock, also when the agent is gone.

use aya_ebpf::{
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use scanguard_common::{
    abi::{GATE_ENFORCE, GATE_OFF},
    actor::{MAX_BLOCKED, Orders, Seen},
    address::Address,
};

use super::{scratch::Scratch, tally};
use crate::clock;

#[btf_map]
static OUTBOUND_ORDERS: Array<Orders, 1> = Array::new();

/// Until when, in jiffies.
#[btf_map]
static BLOCKED: HashMap<Address, u64, { MAX_BLOCKED as usize }> = HashMap::new();

/// Whether anybody is blocked.
#[inline(always)]
pub(super) fn any() -> bool {
    OUTBOUND_ORDERS.get(0).is_some_and(|orders| orders.mode != GATE_OFF && orders.blocked != 0)
}

/// Whether an attempt of the actors of a scratch is refused. In a dry run it is only counted.
#[inline(always)]
pub(super) fn refuses(scratch: *const Scratch) -> bool {
    let Some(orders) = OUTBOUND_ORDERS.get(0) else {
        return false;
    };
    if orders.mode == GATE_OFF || orders.blocked == 0 {
        return false;
    }
    // SAFETY: this CPU's scratch.
    let (program, whole) = unsafe { (Scratch::key(scratch, 0), Scratch::key(scratch, 1)) };
    if !is_blocked(program) && !is_blocked(whole) {
        return false;
    }
    if orders.mode == GATE_ENFORCE {
        tally::count(Seen::Blocked);
        return true;
    }
    tally::count(Seen::WouldBlock);
    false
}

#[inline(always)]
fn is_blocked(key: &Address) -> bool {
    // SAFETY: a number that the agent may change. Any of its values is fine.
    unsafe { BLOCKED.get(key) }.is_some_and(|until| clock::jiffies() < *until)
}
