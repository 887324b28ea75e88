//! Packets whose headers lie deeper than the program looks in place, see `scanguard_common::parse::deep`.
//!
//! Each loop is in a global function, which the verifier checks once, for any arguments.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::{
    address::Address,
    content::{self, Payload},
    inspect_deep,
    outcome::{Exit, Flow, Outcome},
    parse::{
        Chain, Link,
        deep::{self, Deep},
    },
};

use crate::{
    argument::{Lent, Place, given_back, lend, lent},
    incoming::{self, Context, Raw, packet},
    packet_kind::PacketKind,
};

/// The headers that were found in a packet. The stack has no room for them.
#[repr(C)]
struct Found {
    headers: Deep,
    flow: Flow,
}

#[btf_map]
static DEEP: PerCpuArray<Found, 1> = PerCpuArray::new();

/// No exit: the headers were found.
const FOUND: u32 = u32::MAX;

/// The kind of a packet, and its flow if it is or may be a probe.
#[inline(always)]
pub(crate) fn inspect<'m>(ctx: &Context) -> Option<(PacketKind, &'m Flow)> {
    let kind = PacketKind::from_word(scanguard_deep(incoming::raw(ctx)));
    Some((kind, &found()?.flow))
}

/// This CPU's entry.
#[inline(always)]
fn found<'m>() -> Option<&'m mut Found> {
    // SAFETY: this CPU's entry of a map, used by one packet at a time.
    DEEP.get_ptr_mut(0).map(|found| unsafe { &mut *found })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_deep(ctx: *mut Raw) -> u32 {
    let exit = scanguard_deep_find(ctx);
    if exit != FOUND {
        return PacketKind::Exit(exit).word();
    }
    let Some(Found { headers, flow }) = found() else {
        return PacketKind::Exit(Exit::TruncatedIp as u32).word();
    };
    let kind = match inspect_deep(headers) {
        Outcome::Exit(exit) => PacketKind::Exit(exit as u32),
        Outcome::Probe(probe) => {
            *flow = probe.flow;
            PacketKind::probe(probe.class)
        }
        Outcome::Segment(segment) => {
            *flow = segment.flow;
            PacketKind::Segment(segment.kind)
        }
    };
    kind.word()
}

/// The source address of a packet.
#[inline(always)]
pub(crate) fn source(ctx: *mut Raw) -> Option<Address> {
    let (source, _) = deep::addresses(&packet(ctx), link(ctx).ok()?)?;
    Some(source)
}

/// The headers of the packet that was just inspected.
#[inline(always)]
pub(crate) fn headers<'m>() -> Option<&'m Deep> {
    found().map(|found| &found.headers)
}

/// The payload of the packet that was just inspected.
#[inline(always)]
pub(crate) fn payload() -> Option<Payload> {
    content::deep_payload(&found()?.headers)
}

/// Finds the headers. Gives [`FOUND`], or the exit of a packet without them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_deep_find(ctx: *mut Raw) -> u32 {
    let Some(found) = found() else {
        return Exit::TruncatedIp as u32;
    };
    match deep::find(&packet(ctx), &mut found.headers, |_| link(ctx), |_, chain| follow(ctx, chain)) {
        Ok(()) => FOUND,
        Err(exit) => exit as u32,
    }
}

#[inline(always)]
fn link(ctx: *mut Raw) -> Result<Link, Exit> {
    let mut link = Link::default();
    match scanguard_deep_link(ctx, lend(Place::Link, &mut link)) {
        FOUND => {
            given_back(Place::Link, &mut link);
            Ok(link)
        }
        exit if exit == Exit::UnsupportedVlan as u32 => Err(Exit::UnsupportedVlan),
        _ => Err(Exit::TruncatedEthernet),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_deep_link(ctx: *mut Raw, link: Lent<Link>) -> u32 {
    let Some(link) = lent::<Link>(link) else {
        return Exit::TruncatedEthernet as u32;
    };
    match deep::link(&packet(ctx)) {
        Ok(found) => {
            *link = found;
            FOUND
        }
        Err(exit) => exit as u32,
    }
}

#[inline(always)]
fn follow(ctx: *mut Raw, mut chain: Chain) -> Result<Chain, Exit> {
    match scanguard_deep_follow(ctx, lend(Place::Chain, &mut chain)) {
        FOUND => {
            given_back(Place::Chain, &mut chain);
            Ok(chain)
        }
        _ => Err(Exit::TruncatedIp),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_deep_follow(ctx: *mut Raw, chain: Lent<Chain>) -> u32 {
    let Some(chain) = lent::<Chain>(chain) else {
        return Exit::TruncatedIp as u32;
    };
    match deep::follow(&packet(ctx), *chain) {
        Ok(found) => {
            *chain = found;
            FOUND
        }
        Err(exit) => exit as u32,
    }
}
