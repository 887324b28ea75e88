//! ScanGuard's XDP program: looks at each packet that arrives, counts it, and passes it on. Beside it lies the
//! program that looks at what leaves ([`egress`]).
//!
//! This file is the way of a packet and holds the only place where a verdict is given. Parsing,
//! classification and what is kept of a source are `scanguard-common`'s; here they meet the
//! packet's memory ([`packet`]), the sockets ([`oracle`]) and the maps ([`account`], [`flows`], [`tally`]).
#![no_std]
#![no_main]
#![expect(internal_features, reason = "atomic additions exist for this target as intrinsics only")]
#![feature(core_intrinsics)]

mod account;
mod atomics;
mod config;
mod egress;
mod flows;
mod judge;
mod opaque;
mod oracle;
mod packet;
mod tally;
mod trip;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use scanguard_common::{
    classify::{self, Early},
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
    let early = classify::early(&packet, config::salt());
    let exit = match early {
        Early::Established => Exit::TcpEstablished as u32,
        Early::Acknowledgment { tag } if flows::known(tag) => Exit::TcpEstablished as u32,
        Early::Acknowledgment { .. } | Early::Undecided => match inspect(&packet) {
            Outcome::Exit(exit) => exit as u32,
            Outcome::Probe(probe) => judge::probe(&ctx, &probe),
            Outcome::Segment(segment) => judge::segment(&ctx, &segment),
        },
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
