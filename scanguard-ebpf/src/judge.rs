//! What becomes of a packet that may be a probe: asks the sockets, counts what is to be counted.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use scanguard_common::{
    abi::Control,
    flow,
    oracle::{self, Decision, Reach},
    outcome::{Exit, Flow, PROBE_CLASSES, ProbeClass, SegmentKind},
    shield,
};

use crate::{account, config, flows, gate, oracle::Kernel, reach, tally};

/// What a packet is. Global functions take and give it as a word, since the verifier lets them have numbers and pointers only.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A probe of the class with this index, whatever the sockets say. A number, not a class: the verifier must see it
    /// compared with a bound.
    Probe(u32),
    /// A probe only if no socket wants it.
    Segment(SegmentKind),
    /// Neither: it leaves by the exit of this number.
    Exit(u32),
}

/// Where the numbers of segments begin in a word; those of probes begin at 0.
const SEGMENTS: u32 = 64;
/// Where the numbers of exits begin in a word.
const EXITS: u32 = 128;

const _: () =
    assert!(PROBE_CLASSES as u32 <= SEGMENTS && SEGMENTS as usize + SegmentKind::ALL.len() <= EXITS as usize);

impl What {
    /// A probe of this class.
    #[inline(always)]
    pub(crate) fn probe(class: ProbeClass) -> Self {
        Self::Probe(class as u32)
    }

    /// The word that stands for it.
    #[inline(always)]
    pub(crate) fn word(self) -> u32 {
        match self {
            Self::Probe(class) => class,
            Self::Segment(kind) => SEGMENTS + kind as u32,
            Self::Exit(exit) => EXITS + exit,
        }
    }

    /// What a word stands for.
    #[inline(always)]
    pub(crate) fn from_word(word: u32) -> Self {
        if word >= EXITS {
            return Self::Exit(word - EXITS);
        }
        match SegmentKind::from_index(word.wrapping_sub(SEGMENTS) as usize) {
            Some(kind) => Self::Segment(kind),
            None => Self::Probe(word),
        }
    }
}

/// The number of the exit by which a packet leaves that has passed the gate.
#[inline(always)]
pub(crate) fn judge(ctx: &XdpContext, what: What, flow: &Flow) -> u32 {
    scanguard_judge(ctx.ctx, what.word(), core::ptr::from_ref(flow))
}

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
    let kind = match What::from_word(what) {
        What::Probe(class) => {
            let is_syn = class == ProbeClass::Syn as u32;
            let reach = reach::of(&kernel, kernel.interface(), control, is_syn, flow);
            return count(control, &kernel, class as usize, reach, flow) as u32;
        }
        What::Segment(kind) => kind,
        What::Exit(exit) => return exit,
    };
    let tag = flow::tag(flow, config::salt());
    if matches!(kind, SegmentKind::Datagram | SegmentKind::EmptyDatagram) && flows::known(tag) {
        return Exit::UdpOwned as u32;
    }
    match oracle::segment(&kernel, kind, flow) {
        Decision::Probe { class, reach } => count(control, &kernel, class as usize, reach, flow) as u32,
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
fn count(control: &Control, kernel: &Kernel<'_>, class: usize, reach: Reach, flow: &Flow) -> Exit {
    tally::count_probe(class, reach);
    let meets_nobody = shield::class_meets_nobody(class, reach);
    let is_shielded = meets_nobody && gate::is_shielded(control, flow.source);
    let exit = account::count(control, kernel, class, reach, flow, meets_nobody && !is_shielded);
    if is_shielded { Exit::Shielded } else { exit }
}
