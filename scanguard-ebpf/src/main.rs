//! ScanGuard's XDP program: looks at each packet that arrives, counts it, and passes it on.
//!
//! This file is the way of a packet and holds the only place where a verdict is given. Parsing,
//! classification and what is kept of a source are `scanguard-common`'s; here they meet the
//! packet's memory ([`packet`]) and the maps ([`account`], [`tally`]).
#![no_std]
#![no_main]
#![expect(internal_features, reason = "atomic additions exist for this target as intrinsics only")]
#![feature(core_intrinsics)]

mod account;
mod atomics;
mod config;
mod packet;
mod tally;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use scanguard_common::{
    inspect,
    outcome::{Exit, Outcome},
};

use crate::packet::XdpPacket;

/// Sees every packet of the interfaces it is attached to. `frags`: it may also be attached where the
/// MTU exceeds a page, packets then being in several buffers, their headers in the first.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_xdp(ctx: XdpContext) -> u32 {
    let packet = XdpPacket::new(&ctx);
    let exit = match inspect(&packet) {
        Outcome::Exit(exit) => exit,
        Outcome::Probe(probe) => {
            tally::count_probe(probe.class);
            match account::count(&probe) {
                Ok(()) => Exit::Probe,
                Err(account::TableFull) => Exit::TableFull,
            }
        }
    };
    tally::count_exit(exit);
    XDP_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the code has none that panics, and the verifier would refuse this loop.
    loop {}
}

/// The licence that the kernel reads.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
