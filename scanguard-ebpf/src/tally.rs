//! The kernel half of `scanguard_common::tally`: one entry on each CPU, so that adding needs no lock.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::{content::Begins, oracle::Reach, outcome::Exit, sample::LeftOut, tally::Tally};

use crate::opaque::opaque;

#[btf_map]
static TALLY: PerCpuArray<Tally, 1> = PerCpuArray::new();

#[inline(always)]
fn change(add: impl FnOnce(&mut Tally)) {
    if let Some(tally) = TALLY.get_ptr_mut(0) {
        // SAFETY: this CPU's entry, and the program is not preempted by itself on one CPU.
        add(unsafe { &mut *tally });
    }
}

#[inline(always)]
fn add_one(counters: &mut [u64], index: usize) {
    if let Some(counter) = counters.get_mut(opaque(index)) {
        *counter += 1;
    }
}

/// One packet left the program, by the exit with this number.
#[inline(always)]
pub(crate) fn count_exit(exit: u32) {
    change(|tally| add_one(&mut tally.exits, exit as usize));
}

/// One packet was dropped.
#[inline(always)]
pub(crate) fn count_banned() {
    change(|tally| tally.exits[Exit::Banned as usize] += 1);
}

/// One probe of the class with this number was seen, with this reach.
#[inline(always)]
pub(crate) fn count_probe(class: usize, reach: Reach) {
    change(|tally| {
        add_one(&mut tally.probes, class);
        add_one(&mut tally.reached, reach as usize);
    });
}

/// One answer of the kind with this number left.
#[inline(always)]
pub(crate) fn count_answer(answer: usize) {
    change(|tally| add_one(&mut tally.answers, answer));
}

/// One packet left the egress program, by the exit with this number.
#[inline(always)]
pub(crate) fn count_egress(exit: u32) {
    change(|tally| add_one(&mut tally.egress, exit as usize));
}

/// A wake-up was sent to the agent, or there was no room for it.
#[inline(always)]
pub(crate) fn count_wakeup(sent: bool) {
    change(|tally| {
        if sent {
            tally.wakeups += 1;
        } else {
            tally.wakeups_lost += 1;
        }
    });
}

/// One source entered the table.
#[inline(always)]
pub(crate) fn count_insert() {
    change(|tally| tally.inserted += 1);
}

/// One packet would have been dropped if bans were enforced.
#[inline(always)]
pub(crate) fn count_would_drop() {
    change(|tally| tally.would_drop += 1);
}

/// One packet came from a source that is both banned and allowed.
#[inline(always)]
pub(crate) fn count_spared() {
    change(|tally| tally.spared += 1);
}

/// One hold began, or was refused because there are as many as there may be.
#[inline(always)]
pub(crate) fn count_hold(has_room: bool) {
    change(|tally| {
        if has_room {
            tally.holds += 1;
        } else {
            tally.holds_refused += 1;
        }
    });
}

/// A segment of a connection whose handshake was completed.
#[inline(always)]
pub(crate) fn count_completion() {
    change(|tally| tally.completions += 1);
}

/// A payload was sampled.
#[inline(always)]
pub(crate) fn count_sampled(begins: Begins) {
    change(|tally| add_one(&mut tally.sampled, begins.index()));
}

/// A payload was left out of the samples.
#[inline(always)]
pub(crate) fn count_left_out(why: LeftOut) {
    change(|tally| add_one(&mut tally.left_out, why.index()));
}
