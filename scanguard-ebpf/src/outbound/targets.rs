//! The targets that actors asked for, and those that answered. Nothing is done twice for the same target.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::actor::{ANSWERED_SECONDS, FAILED_SECONDS, Seen, TARGET_PLACES, TargetMark};

use super::tally;
use crate::{clock, config};

/// A mark for each target at a place that depends on its name, see [`TargetMark`]. Shared: the CPUs write whole words.
#[btf_map]
static TARGETS: Array<u64, { TARGET_PLACES as usize }> = Array::new();

/// The target is new.
pub(super) const NEW: u32 = 0;
/// It was asked for without success.
pub(super) const FAILED: u32 = 1;
/// It has answered.
pub(super) const ANSWERED: u32 = 2;

/// So many jiffies are one unit of time in a mark, as a power of two.
const UNIT: u32 = 8;
/// How much of the time of a target that answered may pass before it is written anew, in seconds.
const RENEWAL: u64 = 60 * 60;

/// The time in so many seconds, in units.
#[inline(always)]
fn after(seconds: u64) -> u32 {
    ((clock::jiffies() + seconds * config::ticks_per_second()) >> UNIT) as u32
}

/// What is known of a target.
#[inline(always)]
pub(super) fn look(name: u64) -> u32 {
    let mark = TargetMark::new(name);
    let Some(place) = TARGETS.get_ptr_mut(mark.place) else {
        return FAILED;
    };
    // SAFETY: an aligned number in a map.
    unsafe {
        let held = place.read();
        if !mark.is_known(held, after(0)) {
            return NEW;
        }
        if !TargetMark::has_answered(held) {
            return FAILED;
        }
        if !mark.is_known(held, after(ANSWERED_SECONDS - RENEWAL)) {
            place.write(mark.value(after(ANSWERED_SECONDS), true));
        }
        ANSWERED
    }
}

#[inline(always)]
fn write(name: u64, seconds: u64, has_answered: bool) {
    let mark = TargetMark::new(name);
    let Some(place) = TARGETS.get_ptr_mut(mark.place) else {
        return;
    };
    // SAFETY: an aligned number in a map.
    unsafe {
        if mark.replaces(place.read(), after(0)) {
            tally::count(Seen::Overwritten);
        }
        place.write(mark.value(after(seconds), has_answered));
    }
}

/// A new target was asked for. Nothing has answered yet.
#[inline(always)]
pub(super) fn asked(name: u64) {
    write(name, FAILED_SECONDS, false);
}

/// A target has answered.
#[inline(always)]
pub(super) fn answered(name: u64) {
    write(name, ANSWERED_SECONDS, true);
}
