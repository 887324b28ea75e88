//! Wakes the agent at once for a source that shows much that is new, so that it need not wait for the next poll.

use aya_ebpf::{btf_maps::RingBuf, helpers::bpf_ktime_get_ns, macros::btf_map};
use scanguard_common::{
    abi::{Control, Wakeup},
    account::Novelties,
    address::Address,
    wakeup,
};

use crate::{opaque::opaque, tally};

/// Room for 8,000 wake-ups.
#[btf_map]
static TRIPS: RingBuf<Wakeup, { 256 * 1024 }> = RingBuf::new();

/// A source has shown something new: this may wake the agent.
#[inline(always)]
pub(crate) fn wake(control: &Control, source: Address, novelties: Novelties) {
    // The compiler would read these numbers before it is known that there are any, which the verifier refuses before
    // Linux 6.3.
    let Novelties { all, in_epoch } = novelties;
    let novelties =
        Novelties { all: opaque(all as usize) as u32, in_epoch: opaque(in_epoch as usize) as u32 };
    if !wakeup::is_due(control, novelties) {
        return;
    }
    // SAFETY: no arguments.
    let wakeup = Wakeup { source, time_ns: unsafe { bpf_ktime_get_ns() } };
    let sent = TRIPS.output(wakeup, 0).is_ok();
    tally::count_wakeup(sent);
}
