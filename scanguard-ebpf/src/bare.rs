//! Links without a header (tun, WireGuard, PPP): their packets begin with IP. The program puts an Ethernet header before
//! a packet, looks at it like at any other, and takes the header away again. So other links pay nothing.

use aya_ebpf::{helpers::bpf_xdp_adjust_head, programs::XdpContext};
use scanguard_common::{
    outcome::Exit,
    parse::Link,
    wire::{Ethernet, Ipv4},
};

/// What is put before a packet.
const HEADER: i32 = 14;
const _: () = assert!(size_of::<Ethernet>() == HEADER as usize, "a whole header");

/// Puts a header before a packet: from nobody to the address of all zeros, which stands for this host (a link without a
/// header has two ends). If it fails, the packet is unchanged.
///
/// # Errors
/// The exit of a packet that is too short, or before which there is no room.
#[inline(always)]
pub(crate) fn put_header(ctx: &XdpContext) -> Result<(), Exit> {
    let start = ctx.data();
    // Shorter packets are no IP. The kernel would not take the header away from them again.
    if start + size_of::<Ipv4>() > ctx.data_end() {
        return Err(Exit::TruncatedIp);
    }
    // SAFETY: within the packet, as checked.
    let link = Link::bare(unsafe { *(start as *const u8) });
    // SAFETY: the program's context.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -HEADER) } != 0 {
        return Err(Exit::TruncatedEthernet);
    }
    let start = ctx.data();
    if start + size_of::<Ethernet>() > ctx.data_end() {
        return Err(Exit::TruncatedEthernet);
    }
    // Field by field: the stack has no room for a header.
    let header = start as *mut Ethernet;
    // SAFETY: within the packet, as checked. The fields of the header need no alignment.
    unsafe {
        header.cast::<u64>().write_unaligned(0);
        header.cast::<u32>().add(2).write_unaligned(0);
        (&raw mut (*header).ethertype).write(link.ethertype.into());
    }
    Ok(())
}

/// Takes the header away.
#[inline(always)]
pub(crate) fn take_header(ctx: &XdpContext) {
    // SAFETY: the program's context. It cannot fail: the packet is as long as it was.
    let _taken = unsafe { bpf_xdp_adjust_head(ctx.ctx, HEADER) };
}
