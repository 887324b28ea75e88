//! The kernel half of `scanguard_common::admission`: the marks of sources, and how many entered.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use scanguard_common::{
    abi::{Control, TURNED_AWAY_SAMPLES, TurnedAway},
    account::Sample,
    address::Address,
    admission::{Mark, PLACES},
    outcome::Flow,
};

use crate::{config, opaque::opaque};

/// Fingerprints of the sources that sent a first probe. Shared: the packets of one source may arrive on any CPU.
#[btf_map]
static DOOR: Array<u32, PLACES> = Array::new();

/// New sources that entered on this CPU.
#[repr(C)]
struct Entered {
    /// In this epoch.
    epoch: u32,
    /// This many.
    count: u32,
}

#[btf_map]
static ENTERED: PerCpuArray<Entered, 1> = PerCpuArray::new();

/// Examples of the targets of sources that were not admitted.
#[btf_map]
static TURNED_AWAY: PerCpuArray<TurnedAway, 1> = PerCpuArray::new();

/// Whether a source that is not in the table may enter it.
#[inline(always)]
pub(crate) fn admits(source: Address, control: &Control) -> bool {
    has_free_entry(control) || is_known(source)
}

#[inline(always)]
fn has_free_entry(control: &Control) -> bool {
    let Some(entered) = ENTERED.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's entry of a map.
    let entered = unsafe { &mut *entered };
    if entered.epoch != control.epoch {
        *entered = Entered { epoch: control.epoch, count: 0 };
    }
    if entered.count >= control.free_entries {
        return false;
    }
    entered.count += 1;
    true
}

/// Whether a source has probed before. If not, it has now.
///
/// Two CPUs may write the same place at once. Then one of the two sources needs one more probe.
#[inline(always)]
pub(crate) fn is_known(source: Address) -> bool {
    let mark = Mark::new(source, config::salt());
    let Some(held) = DOOR.get_ptr_mut(mark.place) else {
        return false;
    };
    // SAFETY: an aligned number in a map.
    unsafe {
        let is_known = mark.is_known(held.read());
        if !is_known {
            held.write(mark.fingerprint);
        }
        is_known
    }
}

/// One probe in this many of those that were not admitted is kept as an example; a power of two.
const SAMPLED: u64 = 64;

/// Counts a probe whose source was not admitted, and sometimes keeps it as an example.
#[inline(always)]
pub(crate) fn note_turned_away(flow: &Flow, epoch: u32) {
    let Some(turned_away) = TURNED_AWAY.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's entry of a map.
    let turned_away = unsafe { &mut *turned_away };
    let number = turned_away.count;
    turned_away.count = number.wrapping_add(1);
    if number % SAMPLED != 0 {
        return;
    }
    let place = opaque((number / SAMPLED) as usize % TURNED_AWAY_SAMPLES);
    if let Some(sample) = turned_away.samples.get_mut(place) {
        let Flow { destination: host, service, .. } = *flow;
        *sample = Sample { host, port: service.port, protocol: service.protocol, taken: 1, epoch };
    }
}
