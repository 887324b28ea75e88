//! Decides about a packet that may be a probe: asks the sockets, and counts the result.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use scanguard_common::{
    abi::Control,
    flow,
    oracle::{self, Decision, Reach},
    outcome::{Exit, Flow, ProbeClass, SegmentKind},
    shield,
    syn::Fingerprint,
};

use crate::{
    config, flows, gate,
    oracle::Kernel,
    packet_kind::PacketKind,
    reach, sources,
    syn::{self, Found},
    tally,
};

/// The number of the exit of a packet that has passed the gate.
#[inline(always)]
pub(crate) fn judge(ctx: &XdpContext, packet: PacketKind, found: Found, flow: &Flow) -> u32 {
    scanguard_judge(ctx.ctx, packet.word() | found.bits(), core::ptr::from_ref(flow))
}

/// A global function: the verifier checks it once, for any arguments. Otherwise it would check it again for each of
/// the many paths through the parser that lead here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_judge(ctx: *mut xdp_md, packet: u32, flow: *const Flow) -> u32 {
    // SAFETY: the caller's flow. The verifier knows its size, but not that it is there.
    let (Some(flow), Some(control)) = (unsafe { flow.as_ref() }, config::control()) else {
        return Exit::TruncatedIp as u32;
    };
    let kernel = Kernel::new(ctx, control);
    let kind = match PacketKind::from_word(Found::without(packet)) {
        PacketKind::Probe(class) => {
            let is_syn = class == ProbeClass::Syn as u32;
            let reach = reach::of(&kernel, kernel.interface(), control, is_syn, flow);
            return count(control, &kernel, class as usize, reach, flow, || {
                if is_syn { syn::fingerprint(ctx, Found::of(packet)) } else { Fingerprint::NONE }
            }) as u32;
        }
        PacketKind::Segment(kind) => kind,
        PacketKind::Exit(exit) => return exit,
    };
    let tag = flow::tag(flow, config::salt());
    if matches!(kind, SegmentKind::Datagram | SegmentKind::EmptyDatagram) && flows::known(tag) {
        return Exit::UdpOwned as u32;
    }
    match oracle::segment(&kernel, kind, flow) {
        Decision::Probe { class, reach } => {
            count(control, &kernel, class as usize, reach, flow, || Fingerprint::NONE) as u32
        }
        Decision::Ordinary { exit, aborts, remember } => {
            if aborts {
                sources::aborted(control, flow);
            }
            if remember {
                flows::remember(tag);
            }
            if gate::answers_nobody(control, &kernel, exit, flow) {
                return Exit::Shielded as u32;
            }
            exit as u32
        }
    }
}

#[inline(always)]
fn count(
    control: &Control,
    kernel: &Kernel<'_>,
    class: usize,
    reach: Reach,
    flow: &Flow,
    fingerprint: impl FnOnce() -> Fingerprint,
) -> Exit {
    let meets_nobody = shield::class_meets_nobody(class, reach);
    let is_shielded = meets_nobody && gate::is_shielded(control, flow.source);
    let holds = meets_nobody && !is_shielded;
    let exit = sources::count(control, kernel, class, reach, flow, holds, fingerprint);
    // A packet that no other host can have sent is no probe.
    if matches!(exit, Exit::BadSource) {
        return exit;
    }
    tally::count_probe(class, reach);
    if is_shielded { Exit::Shielded } else { exit }
}
