//! The packet's memory: the one bounds check of the program.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use scanguard_common::{
    packet::{MAX_OFFSET, Packet},
    wire::Wire,
};

/// The first buffer of a packet; all of it, but for packets larger than a page.
pub(crate) struct XdpPacket {
    ctx: *mut xdp_md,
    start: usize,
    end: usize,
}

impl XdpPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx, start: ctx.data(), end: ctx.data_end() }
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        // A constant bound on the offset first, then the header's end against the packet's: the
        // order in which the verifier understands that the access is safe.
        if offset > MAX_OFFSET || self.start + offset + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the header lies within the packet, as checked; `Wire` types are unaligned and valid
        // for any bytes; the packet stays while the program runs.
        Some(unsafe { &*((self.start + offset) as *const T) })
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        // SAFETY: the context is the one that the kernel passed in.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as usize }
    }
}
