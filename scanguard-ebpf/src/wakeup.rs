//! Wakes the agent at once for a source that shows much that is new, so that it need not wait for the next poll.

use aya_ebpf::{btf_maps::RingBuf, helpers::bpf_ktime_get_ns, macros::btf_map};
use scanguard_common::{abi::Wakeup, address::Address};

use crate::tally;

/// Room for 8,000 wake-ups. In an epoch, each source has at most as many as its bitmaps have bits.
#[btf_map]
static TRIPS: RingBuf<Wakeup, { 256 * 1024 }> = RingBuf::new();

/// A source has shown something new, `novelties` times by now. From `threshold` on (0: never) this wakes the agent.
#[inline(always)]
pub(crate) fn wake(source: Address, novelties: u32, threshold: u32) {
    if threshold == 0 || novelties < threshold {
        return;
    }
    // SAFETY: no arguments.
    let wakeup = Wakeup { source, time_ns: unsafe { bpf_ktime_get_ns() } };
    let sent = TRIPS.output(wakeup, 0).is_ok();
    tally::count_wakeup(sent);
}
