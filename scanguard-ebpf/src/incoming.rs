//! Incoming packets: the one thing in which the two objects of this crate differ.
//!
//! One is for XDP. The other, with the feature `tc`, is for tc, which sees packets after the stack has merged segments
//! (GRO), so that receive offloads stay. Everything behind this file is the same code.

use aya_ebpf::EbpfContext as _;

#[cfg(feature = "tc")]
pub(crate) use crate::packet::SkbPacket as Incoming;
#[cfg(not(feature = "tc"))]
pub(crate) use crate::packet::XdpPacket as Incoming;
#[cfg(feature = "tc")]
pub(crate) use aya_ebpf::{bindings::__sk_buff as Raw, programs::TcContext as Context};
#[cfg(not(feature = "tc"))]
pub(crate) use aya_ebpf::{bindings::xdp_md as Raw, programs::XdpContext as Context};

/// The kernel's own context, as global functions take it.
#[inline(always)]
pub(crate) fn raw(ctx: &Context) -> *mut Raw {
    ctx.as_ptr().cast()
}

/// The packet of a context.
#[inline(always)]
pub(crate) fn packet(ctx: *mut Raw) -> Incoming {
    Incoming::new(&Context::new(ctx))
}

/// The number of the interface that the packet came by.
#[inline(always)]
pub(crate) fn interface(ctx: *mut Raw) -> u32 {
    // SAFETY: the program's context.
    #[cfg(not(feature = "tc"))]
    return unsafe { (*ctx).ingress_ifindex };
    // That is the first interface of a packet, which may lie below this one.
    // SAFETY: as above.
    #[cfg(feature = "tc")]
    return unsafe { (*ctx).ifindex };
}

/// As many bytes as headers have that are looked at in place: Ethernet, IPv6 and TCP with all its options.
#[cfg(feature = "tc")]
const HEADERS: usize = 114;

/// Has the headers in memory that can be viewed: some drivers leave them to the stack. Costs a comparison otherwise.
#[cfg(feature = "tc")]
#[inline(always)]
pub(crate) fn pull(ctx: &Context) {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + HEADERS <= end {
        return;
    }
    let (viewed, len) = (end - start, ctx.len());
    if viewed >= len as usize {
        return;
    }
    // If it fails, the packet is looked at as far as it is there.
    let _pulled = ctx.pull_data(len.min(HEADERS as u32));
}
