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
mod door;
mod egress;
mod flows;
mod gate;
mod judge;
mod lpm;
mod opaque;
mod oracle;
mod packet;
mod reach;
mod tally;
mod trip;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
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
    match exit(&ctx) {
        BANNED => {
            tally::count_banned();
            XDP_DROP
        }
        exit => {
            tally::count_exit(exit);
            XDP_PASS
        }
    }
}

/// The one exit at which a packet is dropped.
const BANNED: u32 = Exit::Banned as u32;

/// The number of the exit by which a packet leaves.
#[inline(always)]
fn exit(ctx: &XdpContext) -> u32 {
    let packet = XdpPacket::new(ctx);
    let early = classify::early(&packet, config::salt());
    let gate = config::control().filter(|control| gate::is_armed(control));
    let is_running = match early {
        Early::Established => true,
        Early::Acknowledgment { tag } => flows::known(tag),
        Early::Opening => {
            if let Some(control) = gate
                && classify::early_source(&packet).is_some_and(|source| gate::drops_probe(control, source))
            {
                return BANNED;
            }
            let flow = classify::early_flow(&packet);
            return flow.map_or(Exit::TruncatedIp as u32, |flow| judge::opening(ctx, &flow));
        }
        Early::Undecided => false,
    };
    if is_running {
        let drops = gate.is_some() && gate::drops_early(ctx);
        return if drops { BANNED } else { Exit::TcpEstablished as u32 };
    }
    match inspect(&packet) {
        Outcome::Exit(exit) => {
            let drops = gate.is_some_and(|control| gate::drops_other(ctx, control));
            if drops { BANNED } else { exit as u32 }
        }
        Outcome::Probe(probe) => judge::probe(ctx, &probe),
        Outcome::Segment(segment) => judge::segment(ctx, &segment),
    }
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
