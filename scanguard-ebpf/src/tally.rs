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

/// One packet left the program.
#[inline(always)]
pub(crate) fn count_exit(exit: Exit) {
    change(|tally| tally.exits[exit.index()] += 1);
}

/// One probe was seen.
#[inline(always)]
pub(crate) fn count_probe(class: ProbeClass) {
    change(|tally| tally.probes[class.index()] += 1);
}

/// One source was put into the table.
#[inline(always)]
pub(crate) fn count_insert() {
    change(|tally| tally.inserted += 1);
}
