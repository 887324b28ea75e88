//! The targets that actors asked for, and those that answered. Nothing is done twice for the same target.

use aya_ebpf::{btf_maps::LruHashMap, macros::btf_map};
use scanguard_common::actor::{ANSWERED_SECONDS, FAILED_SECONDS, MAX_TARGETS};

use crate::config;

/// Until when a target is known, in jiffies, shifted to the left. The lowest bit says that it has answered.
#[btf_map]
static TARGETS: LruHashMap<u64, u64, { MAX_TARGETS as usize }> = LruHashMap::new();

/// The bit of targets that have answered.
const ANSWERED_BIT: u64 = 1;
/// How much of the time of a target that answered may pass before it is written anew, in seconds.
const RENEWAL: u64 = 60 * 60;

/// The target is new: it is noted now.
pub(super) const NEW: u32 = 0;
/// It was asked for without success.
pub(super) const FAILED: u32 = 1;
/// It has answered.
pub(super) const ANSWERED: u32 = 2;

/// The value of a target that is known for some seconds from now on.
#[inline(always)]
fn until(now: u64, seconds: u64) -> u64 {
    (now + seconds * config::ticks_per_second()) << 1
}

/// What is known of a target. A new one is noted as one that has not answered.
#[inline(always)]
pub(super) fn ask(name: u64, now: u64) -> u32 {
    let failed = until(now, FAILED_SECONDS);
    let Some(held) = TARGETS.get_ptr_mut(name) else {
        // There is room: the map evicts.
        _ = TARGETS.insert(name, failed, 0);
        return NEW;
    };
    // SAFETY: an aligned number in a map. Other CPUs write the same.
    unsafe {
        let known = held.read();
        if now << 1 >= known {
            held.write(failed);
            return NEW;
        }
        if known & ANSWERED_BIT == 0 {
            return FAILED;
        }
        if known < until(now, ANSWERED_SECONDS - RENEWAL) {
            held.write(until(now, ANSWERED_SECONDS) | ANSWERED_BIT);
        }
        ANSWERED
    }
}

/// A target has answered.
#[inline(always)]
pub(super) fn answered(name: u64, now: u64) {
    _ = TARGETS.insert(name, until(now, ANSWERED_SECONDS) | ANSWERED_BIT, 0);
}
