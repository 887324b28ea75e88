//! When listeners of this host began and ended, by their ports, as far as the program saw it.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use scanguard_common::{abi::Control, epoch::is_fresh};

/// The epoch in which a listener at each port began, 0 if none did since the program was loaded.
#[btf_map]
static LISTENERS: Array<u32, { 1 << 16 }> = Array::new();

/// The epoch in which the last listener at each port ended, 0 if none did since the program was loaded.
#[btf_map]
static CEASED: Array<u32, { 1 << 16 }> = Array::new();

/// The first port that is not reserved for services of the superuser. These keep listening.
const FIRST_FREE: u16 = 1024;

/// A listener begins.
#[inline(always)]
pub(crate) fn begins(control: &Control, port: u16) {
    if let Some(began) = LISTENERS.get_ptr_mut(port.into()) {
        // SAFETY: an aligned number in a map.
        unsafe { began.write(control.epoch) };
    }
}

/// A listener ends.
#[inline(always)]
pub(crate) fn ends(control: &Control, port: u16) {
    if let Some(ceased) = CEASED.get_ptr_mut(port.into()) {
        // SAFETY: an aligned number in a map.
        unsafe { ceased.write(control.epoch) };
    }
}

/// Whether the listener at a port began a moment ago, so that it may be there for one connection only.
#[inline(always)]
pub(crate) fn is_young(control: &Control, port: u16) -> bool {
    let began = LISTENERS.get(port.into()).copied().unwrap_or_default();
    port >= FIRST_FREE && began != 0 && is_fresh(began, control.epoch, control.young_epochs)
}

/// Whether a listener was at a port within the last day, and is gone: its clients may not know it yet. Of two that
/// changed places within an epoch, the first counts.
#[inline(always)]
pub(crate) fn was_there(control: &Control, port: u16) -> bool {
    let ceased = CEASED.get(port.into()).copied().unwrap_or_default();
    let began = LISTENERS.get(port.into()).copied().unwrap_or_default();
    ceased != 0
        && ceased.wrapping_sub(began) < u32::MAX / 2
        && is_fresh(ceased, control.epoch, control.live_epochs)
}
