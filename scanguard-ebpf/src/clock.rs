//! The kernel's clock. Bans, shields and remembered answers end by it.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, helpers::bpf_jiffies64, macros::xdp, programs::XdpContext};

/// Writes the time into the frame, by the clock of the bans.
#[cfg_attr(not(feature = "old"), xdp(frags))]
#[cfg_attr(feature = "old", xdp)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_clock(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<u64>() <= end {
        // SAFETY: within the frame, as checked.
        unsafe { (start as *mut u64).write_unaligned(jiffies()) };
    }
    XDP_PASS
}

/// This is a load, not a call: the verifier inlines it.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_jiffies64() }
}
