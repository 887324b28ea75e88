//! What becomes of a packet that may be a probe: asks the sockets, counts what is to be counted.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use scanguard_common::{
    abi::Control,
    flow,
    oracle::{self, Decision, Reach},
    outcome::{Exit, Flow, PROBE_CLASSES, Probe, ProbeClass, Segment, SegmentKind},
    shield,
};

use crate::{account, config, flows, gate, oracle::Kernel, reach, tally};

/// Added to a segment's kind, to tell it from a probe's class.
const SEGMENT: u32 = 64;

/// Added to the class of a probe that has passed the gate.
const PASSED: u32 = 128;

/// A SYN that has passed the gate.
#[inline(always)]
pub(crate) fn opening(ctx: &XdpContext, flow: &Flow) -> u32 {
    scanguard_judge(ctx.ctx, PASSED + ProbeClass::Syn as u32, core::ptr::from_ref(flow))
}

/// A probe, whatever the sockets say.
#[inline(always)]
pub(crate) fn probe(ctx: &XdpContext, probe: &Probe) -> u32 {
    scanguard_judge(ctx.ctx, probe.class as u32, &raw const probe.flow)
}

/// A probe only if no socket wants it.
#[inline(always)]
pub(crate) fn segment(ctx: &XdpContext, segment: &Segment) -> u32 {
    scanguard_judge(ctx.ctx, SEGMENT + segment.kind as u32, &raw const segment.flow)
}

/// The number of the exit by which the packet leaves.
///
/// A global function: the verifier looks at it once, for any arguments, rather than again for each of
/// the many ways through the parser that lead here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_judge(ctx: *mut xdp_md, what: u32, flow: *const Flow) -> u32 {
    // SAFETY: the caller's flow, of which the verifier knows the size but not that it is there.
    let (Some(flow), Some(control)) = (unsafe { flow.as_ref() }, config::control()) else {
        return Exit::TruncatedIp as u32;
    };
    let kernel = Kernel::new(ctx, control);
    let class = what & !PASSED;
    if class < PROBE_CLASSES as u32 {
        if what & PASSED == 0 && gate::drops_probe(control, flow.source) {
            return Exit::Banned as u32;
        }
        let reach = reach::of(&kernel, control, class == ProbeClass::Syn as u32, flow);
        return count(control, class as usize, reach, flow) as u32;
    }
    let Some(kind) = SegmentKind::from_index(what.wrapping_sub(SEGMENT) as usize) else {
        return Exit::TruncatedIp as u32;
    };
    if gate::drops_segment(control, &kernel, kind, flow) {
        return Exit::Banned as u32;
    }
    let tag = flow::tag(flow, config::salt());
    if matches!(kind, SegmentKind::Datagram | SegmentKind::EmptyDatagram) && flows::known(tag) {
        return Exit::UdpOwned as u32;
    }
    match oracle::segment(&kernel, kind, flow) {
        Decision::Probe { class, reach } => count(control, class as usize, reach, flow) as u32,
        Decision::Ordinary { exit, aborts, remember } => {
            if aborts {
                account::aborted(control, flow);
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
fn count(control: &Control, class: usize, reach: Reach, flow: &Flow) -> Exit {
    tally::count_probe(class, reach);
    let meets_nobody = shield::class_meets_nobody(class, reach);
    let is_shielded = meets_nobody && gate::is_shielded(control, flow.source);
    let exit = account::count(control, class, reach, flow, meets_nobody && !is_shielded);
    if is_shielded { Exit::Shielded } else { exit }
}
