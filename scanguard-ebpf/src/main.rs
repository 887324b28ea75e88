//! ScanGuard's XDP program: looks at each packet that arrives, counts it, and passes it on. Beside it lies the
//! program that looks at what leaves ([`egress`]), and the one that hears of connections ([`connections`]).
//!
//! This file is the way of a packet and holds the only place where a verdict is given. Parsing,
//! classification and what is kept of a source are `scanguard-common`'s; here they meet the
//! packet's memory ([`packet`]), the sockets ([`oracle`]) and the maps ([`account`], [`flows`], [`sample`], [`tally`]).
#![no_std]
#![no_main]
#![expect(internal_features, reason = "atomic additions exist for this target as intrinsics only")]
#![feature(asm_experimental_arch, core_intrinsics)]

mod account;
mod atomics;
mod changes;
mod config;
mod connections;
mod door;
mod egress;
mod epoch;
mod flows;
mod gate;
mod hold;
mod judge;
mod lpm;
mod opaque;
mod oracle;
mod packet;
mod reach;
mod sample;
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
            if exit == HELD || exit == SHIELDED { XDP_DROP } else { XDP_PASS }
        }
    }
}

/// The exits at which a packet is dropped.
const BANNED: u32 = Exit::Banned as u32;
/// As above.
const HELD: u32 = Exit::Held as u32;
/// As above.
const SHIELDED: u32 = Exit::Shielded as u32;

/// The number of the exit by which a packet leaves.
#[inline(always)]
fn exit(ctx: &XdpContext) -> u32 {
    let packet = XdpPacket::new(ctx);
    let early = classify::early(&packet, config::salt());
    let gate = config::control().filter(|control| gate::is_armed(control));
    match early {
        Early::Established => {
            let exit = running(ctx, gate.is_some());
            if exit != BANNED {
                sample::arrived_early(ctx, &packet);
            }
            return exit;
        }
        Early::Acknowledgment { tag } if flows::known(tag) => return running(ctx, gate.is_some()),
        Early::Opening => {
            if let Some(control) = gate
                && classify::early_source(&packet).is_some_and(|source| gate::drops_probe(control, source))
            {
                return BANNED;
            }
            let flow = classify::early_flow(&packet);
            return flow.map_or(Exit::TruncatedIp as u32, |flow| judge::opening(ctx, &flow));
        }
        Early::Acknowledgment { .. } | Early::Undecided => {}
    }
    match inspect(&packet) {
        Outcome::Exit(exit) => {
            if gate.is_some_and(|control| gate::drops_other(ctx, control, exit)) {
                return BANNED;
            }
            // With tags or options, or it would have been known above.
            if matches!(exit, Exit::TcpEstablished) {
                sample::arrived(ctx);
            }
            exit as u32
        }
        Outcome::Probe(probe) => judge::probe(ctx, &probe),
        Outcome::Segment(segment) => {
            let exit = judge::segment(ctx, &segment);
            if exit != BANNED {
                sample::judged(ctx, &segment);
            }
            exit
        }
    }
}

/// The exit of a segment that was taken for one of a connection early on.
#[inline(always)]
fn running(ctx: &XdpContext, is_armed: bool) -> u32 {
    if is_armed && gate::drops_early(ctx) { BANNED } else { Exit::TcpEstablished as u32 }
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
