//! ScanGuard's program for incoming packets: looks at each, counts it, and passes it on. It is built twice, for XDP and
//! for tc ([`incoming`]). The object also has the program for outgoing packets ([`egress`]) and the one that counts
//! connections ([`connections`]).
//!
//! This file shows the path of a packet, and has the only place where the program gives a verdict. `scanguard-common`
//! parses, classifies and keeps the state of sources. The other modules give it the packet's memory ([`packet`]), the
//! sockets ([`oracle`]) and the maps ([`sources`], [`flows`], [`sample`], [`tally`]).
#![no_std]
#![no_main]
#![expect(internal_features, reason = "atomic additions exist for this target as intrinsics only")]
#![feature(asm_experimental_arch, core_intrinsics)]

mod admission;
mod argument;
mod atomics;
#[cfg(not(feature = "tc"))]
mod bare;
mod changes;
mod clock;
mod config;
mod connections;
mod deep;
mod egress;
mod epoch;
mod fields;
mod flows;
mod gate;
mod hold;
mod home;
mod incoming;
mod judge;
mod listeners;
mod lpm;
mod object;
mod opaque;
mod oracle;
mod outbound;
mod packet;
mod packet_kind;
mod reach;
mod read;
mod sample;
mod sources;
mod syn;
mod tally;
mod used;
mod wakeup;

#[cfg(not(feature = "tc"))]
use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
};
#[cfg(feature = "tc")]
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
};
use scanguard_common::{
    abi::Control,
    classify::{self, Early},
    inspect_shallow,
    outcome::{Exit, Flow, Outcome, Probe, ProbeClass, Segment},
};

use crate::{
    incoming::{Context, Incoming},
    packet_kind::PacketKind,
    sample::Headers,
    syn::Found,
};

/// Sees every packet of its interfaces. `frags`: it may also be attached where the MTU exceeds a page. Packets then
/// lie in several buffers, with their headers in the first.
#[cfg(not(feature = "tc"))]
#[cfg_attr(not(feature = "old"), xdp(frags))]
#[cfg_attr(feature = "old", xdp)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_xdp(ctx: Context) -> u32 {
    action(exit(&ctx))
}

/// The same for links without a header, see [`bare`].
#[cfg(not(feature = "tc"))]
#[cfg_attr(not(feature = "old"), xdp(frags))]
#[cfg_attr(feature = "old", xdp)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_bare(ctx: Context) -> u32 {
    if let Err(exit) = bare::put_header(&ctx) {
        return action(exit as u32);
    }
    // Generic mode costs far more than an early decision would save, and the stack has no room for one.
    let action = action(inspected(&ctx, &Incoming::new(&ctx), armed()));
    bare::take_header(&ctx);
    action
}

#[cfg(not(feature = "tc"))]
#[inline(always)]
fn action(exit: u32) -> u32 {
    if drops(exit) { XDP_DROP } else { XDP_PASS }
}

/// Sees every packet of its interfaces after GRO: merged segments are one packet.
#[cfg(feature = "tc")]
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_tc(ctx: Context) -> i32 {
    incoming::pull(&ctx);
    // Not TC_ACT_OK: the programs behind this one see the packet, too.
    if drops(exit(&ctx)) { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Counts a packet under its exit, and gives whether it is dropped.
#[inline(always)]
fn drops(exit: u32) -> bool {
    if exit == BANNED {
        tally::count_banned();
        return true;
    }
    tally::count_exit(exit);
    exit == HELD || exit == SHIELDED
}

/// The exits of dropped packets.
const BANNED: u32 = Exit::Banned as u32;
/// As above.
const HELD: u32 = Exit::Held as u32;
/// As above.
const SHIELDED: u32 = Exit::Shielded as u32;

/// The settings, if there are bans or shields.
#[inline(always)]
fn armed() -> Option<&'static Control> {
    config::control().filter(|control| gate::is_armed(control))
}

/// The number of the exit of a packet.
#[inline(always)]
fn exit(ctx: &Context) -> u32 {
    let packet = Incoming::new(ctx);
    let early = classify::early(&packet, config::salt());
    let gate = armed();
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
            // Without a closure: the compiler would make a function of it, since there are two programs.
            if let Some(control) = gate
                && let Some(source) = classify::early_source(&packet)
                && gate::drops_probe(control, source)
            {
                return BANNED;
            }
            let flow = classify::early_flow(&packet);
            let Some(flow) = flow else {
                return Exit::TruncatedIp as u32;
            };
            return judge::judge(ctx, PacketKind::probe(ProbeClass::Syn), Found::Plain, &flow);
        }
        Early::Acknowledgment { .. } | Early::Undecided => {}
    }
    inspected(ctx, &packet, gate)
}

/// The number of the exit of a packet for which there is no early decision.
#[inline(always)]
fn inspected(ctx: &Context, packet: &Incoming, gate: Option<&Control>) -> u32 {
    let Some(outcome) = inspect_shallow(packet) else {
        return deep(ctx, gate.is_some());
    };
    match outcome {
        Outcome::Exit(exit) => {
            if let Some(control) = gate
                && gate::drops_other(ctx, control, exit)
            {
                return BANNED;
            }
            if matches!(exit, Exit::TcpEstablished) {
                sample::arrived(ctx, Headers::Shallow);
            }
            exit as u32
        }
        Outcome::Probe(Probe { class, flow }) => judge(ctx, gate.is_some(), PacketKind::probe(class), &flow),
        Outcome::Segment(Segment { kind, flow }) => {
            let exit = judge(ctx, gate.is_some(), PacketKind::Segment(kind), &flow);
            if exit != BANNED {
                sample::judged(ctx, kind, &flow, Headers::Shallow);
            }
            exit
        }
    }
}

/// The exit of a packet that may be a probe.
#[inline(always)]
fn judge(ctx: &Context, is_armed: bool, packet: PacketKind, flow: &Flow) -> u32 {
    if is_armed && gate::drops_any(ctx, packet, flow) {
        BANNED
    } else {
        judge::judge(ctx, packet, Found::Shallow, flow)
    }
}

/// The exit of a packet whose headers lie deeper than the program looks in place. If its source is banned, the packet
/// is dropped before the headers are followed.
#[inline(always)]
fn deep(ctx: &Context, is_armed: bool) -> u32 {
    if is_armed && gate::drops_unread(ctx) {
        return BANNED;
    }
    let Some((packet, flow)) = deep::inspect(ctx) else {
        return Exit::TruncatedIp as u32;
    };
    match packet {
        PacketKind::Exit(exit) => {
            if exit == Exit::TcpEstablished as u32 {
                sample::arrived(ctx, Headers::Deep);
            }
            exit
        }
        PacketKind::Probe(_) => judge::judge(ctx, packet, Found::Deep, flow),
        PacketKind::Segment(kind) => {
            let exit = judge::judge(ctx, packet, Found::Deep, flow);
            sample::judged(ctx, kind, flow, Headers::Deep);
            exit
        }
    }
}

/// The exit of a segment that the early decision took for one of a connection.
#[inline(always)]
fn running(ctx: &Context, is_armed: bool) -> u32 {
    if is_armed && gate::drops_early(ctx) { BANNED } else { Exit::TcpEstablished as u32 }
}
