//! Decides about a packet that may be a probe: asks the sockets, and counts the result.

use scanguard_common::{
    flow,
    oracle::{self, Decision, Reach},
    outcome::{Exit, Flow, ProbeClass, SegmentKind},
    shield,
    syn::Fingerprint,
};

use crate::{
    argument::{Given, Place, give, given},
    config, flows, gate,
    incoming::{self, Context, Raw},
    oracle::Kernel,
    outbound,
    packet_kind::PacketKind,
    reach, sources,
    syn::{self, Found},
    tally, used,
};

/// The number of the exit of a packet that has passed the gate.
///
/// It is decided by one function and counted by another, one after the other: the verifier adds up the stacks of
/// functions that call each other.
#[inline(always)]
pub(crate) fn judge(ctx: &Context, packet: PacketKind, found: Found, flow: &Flow) -> u32 {
    let decided = scanguard_judge(incoming::raw(ctx), packet.word(), give(Place::Flow, flow));
    if let PacketKind::Segment(kind @ (SegmentKind::SynAck | SegmentKind::Reset)) = packet {
        outbound::answers_inner(flow, matches!(kind, SegmentKind::Reset));
    }
    if decided & PROBE == 0 {
        return decided;
    }
    let is_syn = decided & CLASS_BITS == ProbeClass::Syn as u32;
    let Fingerprint { layout, values } = if is_syn { syn::of(ctx, found) } else { Fingerprint::NONE };
    scanguard_count(incoming::raw(ctx), decided, give(Place::Flow, flow), layout, values)
}

/// The mark of a decision that a packet is a probe, beside its class and its reach. Without the mark, a decision is the
/// number of an exit.
const PROBE: u32 = 1 << 31;
/// The bits of the class.
const CLASS_BITS: u32 = 0xff;
/// Where the reach is.
const REACH_SHIFT: u32 = 8;

#[inline(always)]
const fn probe(class: u32, reach: Reach) -> u32 {
    PROBE | (reach as u32) << REACH_SHIFT | class
}

/// The reach of a probe.
#[inline(always)]
const fn reach_of(decided: u32) -> Reach {
    match decided >> REACH_SHIFT & 3 {
        0 => Reach::Open,
        1 => Reach::Closed,
        2 => Reach::Unknown,
        _ => Reach::Dark,
    }
}

/// A global function: the verifier checks it once, for any arguments. Otherwise it would check it again for each of
/// the many paths through the parser that lead here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_judge(ctx: *mut Raw, packet: u32, flow: Given<Flow>) -> u32 {
    let (Some(flow), Some(control)) = (given::<Flow>(flow), config::control()) else {
        return Exit::TruncatedIp as u32;
    };
    let kernel = Kernel::new(ctx, control);
    let kind = match PacketKind::from_word(packet) {
        PacketKind::Probe(class) => {
            let is_syn = class == ProbeClass::Syn as u32;
            return probe(class, reach::of(&kernel, kernel.interface(), control, is_syn, flow));
        }
        PacketKind::Segment(kind) => kind,
        PacketKind::Exit(exit) => return exit,
    };
    let tag = flow::tag(flow, config::salt());
    if matches!(kind, SegmentKind::Datagram | SegmentKind::EmptyDatagram) && flows::known(tag) {
        return Exit::UdpOwned as u32;
    }
    match oracle::segment(&kernel, kind, flow) {
        Decision::Probe { class, reach } => probe(class as u32, reach),
        Decision::Ordinary { exit, aborts, remember } => {
            if aborts {
                sources::aborted(control, flow);
            }
            if remember {
                flows::remember(tag);
            }
            // A listener refuses it as it refuses an ACK of no connection. But it may be backscatter: this host must
            // not take its own answer for a sign of a sweep, see [`crate::egress`].
            if matches!((kind, exit), (SegmentKind::SynAck, Exit::TcpStray)) {
                used::note(flow);
            }
            if gate::answers_nobody(control, &kernel, exit, flow) {
                return Exit::Shielded as u32;
            }
            exit as u32
        }
    }
}

/// Counts a probe with its [`Fingerprint`], and gives the number of its exit. A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_count(
    ctx: *mut Raw,
    decided: u32,
    flow: Given<Flow>,
    layout: u64,
    values: u64,
) -> u32 {
    let (Some(flow), Some(control)) = (given::<Flow>(flow), config::control()) else {
        return Exit::TruncatedIp as u32;
    };
    let kernel = Kernel::new(ctx, control);
    let (class, reach) = ((decided & CLASS_BITS) as usize, reach_of(decided));
    let meets_nobody = shield::class_meets_nobody(class, reach);
    let is_shielded = meets_nobody && gate::is_shielded(control, flow.source);
    let holds = meets_nobody && !is_shielded;
    let fingerprint = Fingerprint { layout, values };
    let exit = sources::count(control, &kernel, class, reach, flow, holds, fingerprint);
    // A packet that no other host can have sent is no probe.
    if matches!(exit, Exit::BadSource) {
        return exit as u32;
    }
    tally::count_probe(class, reach);
    if is_shielded { Exit::Shielded as u32 } else { exit as u32 }
}
