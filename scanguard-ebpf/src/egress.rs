//! The kernel half of `scanguard_common::egress`: the program at tcx or clsact, whose verdicts are the same. It looks at
//! each outgoing packet, notes the answers to sources and the flows that this host uses, and lets the packet go on. What
//! opens a flow goes to [`outbound`].

use aya_ebpf::{
    bindings::{
        __sk_buff,
        tcx_action_base::{TCX_DROP, TCX_NEXT},
    },
    macros::classifier,
    programs::TcContext,
};
use scanguard_common::{
    egress::{self, Outgoing},
    outcome::{Answer, EgressExit, Flow},
    used::is_service,
    wire::protocol,
};

use crate::{
    argument::{Given, Place, give, given},
    config, home, oracle, outbound,
    packet::SkbPacket,
    sample, sources, tally, used,
};

/// Stands for a SYN or an echo request, which is none of the kinds of answers.
const OPENING: u32 = 64;
/// Stands for a RST that answers a segment of no connection.
const REFUSAL: u32 = 65;

/// Sees every outgoing packet of its interfaces, after NAT: the addresses are those that the other side sees. It
/// changes nothing, and leaves the verdict to the programs after it, unless the actor is blocked.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_egress(ctx: TcContext) -> i32 {
    let packet = SkbPacket::new(&ctx);
    let mut drops = false;
    let exit = match egress::early(&packet) {
        Some((exit, port)) => {
            if matches!(exit, EgressExit::Udp)
                && let Some(flow) = egress::early_datagram(&packet)
            {
                drops = datagram(&ctx, &flow);
            }
            sample::leaves_from(&ctx, port);
            exit as u32
        }
        None => {
            let outgoing = egress::outgoing(&packet);
            let has_payload =
                matches!(outgoing, Outgoing::Exit(EgressExit::Tcp | EgressExit::Udp) | Outgoing::Datagram(_));
            let exit;
            (exit, drops) = note(&ctx, outgoing);
            if has_payload {
                sample::leaves(&ctx);
            }
            exit
        }
    };
    tally::count_egress(exit);
    if drops { TCX_DROP } else { TCX_NEXT }
}

/// The same for links without a header: nothing is sampled there.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_bare_out(ctx: TcContext) -> i32 {
    let (exit, drops) = note(&ctx, egress::outgoing_bare(&SkbPacket::new(&ctx)));
    tally::count_egress(exit);
    if drops { TCX_DROP } else { TCX_NEXT }
}

/// Notes what a packet says. Gives the number of its exit, and whether it is dropped.
#[inline(always)]
fn note(ctx: &TcContext, outgoing: Outgoing) -> (u32, bool) {
    let skb = ctx.skb.skb;
    match outgoing {
        Outgoing::Exit(exit) => (exit as u32, false),
        Outgoing::Datagram(flow) => (EgressExit::Udp as u32, datagram(ctx, &flow)),
        Outgoing::Answer(answer, flow) => {
            (scanguard_note(skb, answer as u32, give(Place::Flow, &flow)), false)
        }
        Outgoing::Refusal(flow) => {
            // This comes first: the answer is noted for a source that is in the table.
            scanguard_refused(skb, give(Place::Flow, &flow));
            (scanguard_note(skb, REFUSAL, give(Place::Flow, &flow)), false)
        }
        Outgoing::Opening(flow) => {
            let exit = scanguard_note(skb, OPENING, give(Place::Flow, &flow));
            (exit, outbound::leaves(skb, &flow))
        }
    }
}

/// A datagram leaves. Gives whether it is dropped.
#[inline(always)]
fn datagram(ctx: &TcContext, flow: &Flow) -> bool {
    if is_service(flow) {
        return false;
    }
    let is_new = used::note(flow);
    // SAFETY: the program's context.
    if is_new && unsafe { (*ctx.skb.skb).ingress_ifindex } != 0 {
        scanguard_handed_on(give(Place::Flow, flow));
    }
    (is_new || outbound::looks_at_all()) && outbound::leaves(ctx.skb.skb, flow)
}

/// As [`handed_on`], for the flow of the answers. A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_handed_on(flow: Given<Flow>) -> u32 {
    if let Some(flow) = given::<Flow>(flow) {
        handed_on(&flow.turned());
    }
    0
}

/// A packet that came in leaves. If it goes to an address of this host, this host hands it on to the servers behind a
/// virtual address (direct server return): they answer by another way.
#[inline(always)]
fn handed_on(flow: &Flow) {
    if home::note_published(flow, || false) {
        settled(flow);
    }
}

/// The service of a flow is there, whatever was thought of it before.
#[inline(always)]
fn settled(flow: &Flow) {
    if let Some(control) = config::control() {
        sources::met(control, flow);
    }
}

/// Notes an answer or a SYN, and gives the number of the exit.
///
/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_note(ctx: *mut __sk_buff, what: u32, flow: Given<Flow>) -> u32 {
    let Some(flow) = given::<Flow>(flow) else {
        return EgressExit::Unreadable as u32;
    };
    // SAFETY: the program's context. Without an interface, this host made the packet itself. Then a firewall may have
    // answered for an address that nobody uses.
    let is_forwarded = unsafe { (*ctx).ingress_ifindex } != 0;
    if is_forwarded {
        home::note_live(flow.destination);
    } else if what == Answer::SynAck as u32 && config::control().is_some_and(|control| control.forwards == 0)
    {
        home::note_guest(flow.destination);
    }
    let answer = match what {
        OPENING => {
            if flow.service.protocol != protocol::TCP {
                return egress::opening(flow) as u32;
            }
            used::note(flow);
            if is_forwarded {
                handed_on(&flow.turned());
            }
            return EgressExit::Tcp as u32;
        }
        0 => Answer::SynAck,
        1 | REFUSAL => Answer::Reset,
        2 => Answer::Unreachable,
        _ => Answer::Reply,
    };
    // The socket of a service that is bound to a device above this one is not found from here. Where this host forwards,
    // the SYN's reach was unknown, and the agent subtracts the answer from the misses.
    if matches!(answer, Answer::SynAck)
        && home::note_published(flow, || oracle::has_socket(ctx.cast(), flow))
        && config::control().is_some_and(|control| control.forwards == 0)
    {
        settled(flow);
    }
    tally::count_answer(answer as usize);
    let is_noted = config::control().is_some_and(|control| sources::answered(control, answer, flow));
    let exit = if is_noted { EgressExit::Answer } else { EgressExit::AnswerUnmatched };
    exit as u32
}

/// Notes a segment of no connection to a service that listens here. This host answered it by a RST: it knows no such
/// connection, and did not end one in this flow lately.
///
/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_refused(ctx: *mut __sk_buff, flow: Given<Flow>) -> u32 {
    let (Some(flow), Some(control)) = (given::<Flow>(flow), config::control()) else {
        return 0;
    };
    // SAFETY: the program's context.
    let is_forwarded = unsafe { (*ctx).ingress_ifindex } != 0;
    if !is_forwarded
        && home::is_ours(flow.destination)
        && !used::was(flow)
        && oracle::is_listening(ctx.cast(), flow)
    {
        sources::refused(control, flow);
    }
    0
}
