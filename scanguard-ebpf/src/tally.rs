//! The exact totals: one entry a CPU, so that adding needs no lock.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::{
    outcome::{Exit, ProbeClass},
    tally::Tally,
};

#[btf_map]
static TALLY: PerCpuArray<Tally, 1> = PerCpuArray::new();

#[inline(always)]
fn change(add: impl FnOnce(&mut Tally)) {
    if let Some(tally) = TALLY.get_ptr_mut(0) {
        // SAFETY: this CPU's entry, and the program is not preempted by itself on one CPU.
        add(unsafe { &mut *tally });
    }
}

/// An index that the compiler knows nothing about, so that it leaves the comparison with the bound in the
/// code: the verifier loses sight of an enum's range when it goes through the stack.
#[inline(always)]
fn opaque(index: usize) -> usize {
    // SAFETY: a local variable.
    unsafe { core::ptr::read_volatile(&raw const index) }
}

#[inline(always)]
fn add_one(counters: &mut [u64], index: usize) {
    if let Some(counter) = counters.get_mut(opaque(index)) {
        *counter += 1;
    }
}

/// One packet left the program.
#[inline(always)]
pub(crate) fn count_exit(exit: Exit) {
    change(|tally| add_one(&mut tally.exits, exit.index()));
}

/// One probe was seen.
#[inline(always)]
pub(crate) fn count_probe(class: ProbeClass) {
    change(|tally| add_one(&mut tally.probes, class.index()));
}

/// One source was put into the table.
#[inline(always)]
pub(crate) fn count_insert() {
    change(|tally| tally.inserted += 1);
}
