//! The kernel half of `scanguard_common::packet`: the one bounds check of both programs.

#[cfg(feature = "old")]
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
#[cfg(not(feature = "tc"))]
use aya_ebpf::programs::XdpContext;
use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes, programs::TcContext};
#[cfg(not(any(feature = "tc", feature = "old")))]
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
};
use scanguard_common::{
    packet::{MAX_OFFSET, Packet},
    wire::Wire,
};

/// The first buffer of an incoming packet, by XDP. It has the whole packet, unless that is larger than a page.
#[cfg(not(feature = "tc"))]
pub(crate) struct XdpPacket {
    #[cfg(not(feature = "old"))]
    ctx: *mut xdp_md,
    start: usize,
    end: usize,
}

#[cfg(not(feature = "tc"))]
impl XdpPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
            #[cfg(not(feature = "old"))]
            ctx: ctx.ctx,
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

/// The first buffer of an outgoing packet, or of an incoming one by tc. The stack puts all headers of its packets there.
pub(crate) struct SkbPacket {
    skb: *mut __sk_buff,
    start: usize,
    end: usize,
}

impl SkbPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb, start: ctx.data(), end: ctx.data_end() }
    }
}

/// No frame in one buffer is longer: the verifier needs a constant bound.
#[cfg(feature = "old")]
const MAX_FRAME: usize = 0xffff;

/// The header at `offset` in the memory from `start` to `end`.
#[inline(always)]
fn view<'p, T: Wire>(start: usize, end: usize, offset: usize) -> Option<&'p T> {
    // First a constant bound on the offset, then the header's end against the packet's. In this order the verifier
    // understands that the access is safe.
    if offset > MAX_OFFSET || start + offset + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the header lies within the packet, as checked; `Wire` types are unaligned and valid
    // for any bytes; the packet stays while the program runs.
    Some(unsafe { &*((start + offset) as *const T) })
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        view(self.start, self.end, offset)
    }

    #[inline(always)]
    fn load(&self, offset: usize, into: &mut [u8]) -> bool {
        let (start, len) = (into.as_mut_ptr().cast(), into.len() as u32);
        // SAFETY: the program's context; the kernel checks the packet's end.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), offset as u32, start, len) == 0 }
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        // Read where it is needed: kept, it would take the last of the stack that the kernel gives.
        // SAFETY: the context is the one that the kernel passed in.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= self.end - self.start || len <= self.frame_len()
    }
}

#[cfg(not(feature = "tc"))]
impl Packet for XdpPacket {
    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        view(self.start, self.end, offset)
    }

    #[inline(always)]
    fn load(&self, offset: usize, into: &mut [u8]) -> bool {
        let (start, len) = (into.as_mut_ptr().cast(), into.len() as u32);
        // SAFETY: the program's context; the kernel checks the packet's end.
        #[cfg(not(feature = "old"))]
        return unsafe { bpf_xdp_load_bytes(self.ctx, offset as u32, start, len) == 0 };
        // There is one buffer, and no such helper. This one takes any address, which is within the packet here.
        #[cfg(feature = "old")]
        {
            let offset = crate::opaque::opaque(offset);
            if offset > MAX_FRAME || offset + into.len() > self.end - self.start {
                return false;
            }
            // SAFETY: as above.
            unsafe { bpf_probe_read_kernel(start, len, (self.start + offset) as *const _) == 0 }
        }
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        // SAFETY: the context is the one that the kernel passed in.
        #[cfg(not(feature = "old"))]
        return unsafe { bpf_xdp_get_buff_len(self.ctx) as usize };
        #[cfg(feature = "old")]
        return self.end - self.start;
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        // Most packets lie in one buffer, and asking for the whole length is a call.
        len <= self.end - self.start || len <= self.frame_len()
    }
}
