//! Packets that leave: those that no socket of the kernel's TCP or UDP made, datagrams of connected sockets, and
//! connections that hosts behind this one open.

use aya_ebpf::{
    bindings::__sk_buff,
    btf_maps::HashMap,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock},
    macros::btf_map,
};
use scanguard_common::{
    actor::{Key, Kind, MAX_INNER, Seen, marks, target},
    address::Address,
    outcome::{Answer, Flow, ProbeClass, Service},
    wire::protocol,
};

use super::{
    actor, attempt, blocks, groups, owners,
    scratch::{self, Hook, Scratch},
    table, tally, targets,
};
use crate::{
    argument::{Given, Place, give, given},
    config,
};

/// Address families and types of sockets (include/linux/socket.h, include/linux/net.h).
const AF_PACKET: u32 = 17;
/// As above.
const DATAGRAM: u32 = 2;
/// As above.
const RAW: u32 = 3;

const HOOK: u32 = Hook::Egress as u32;

#[btf_map]
static INNER: HashMap<u32, u32, { MAX_INNER as usize }> = HashMap::new();

/// Whether packets are looked at that belong to a flow which was seen before.
#[inline(always)]
pub(crate) fn looks_at_all() -> bool {
    config::outbound() && blocks::any()
}

/// A packet leaves that opens a flow. The flow is as answers arrive in it. Gives whether it is dropped.
#[inline(always)]
pub(crate) fn leaves(ctx: *mut __sk_buff, flow: &Flow) -> bool {
    config::outbound() && scanguard_leaves(ctx, give(Place::Flow, flow)) != 0
}

/// As above. A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_leaves(ctx: *mut __sk_buff, flow: Given<Flow>) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(flow), Some(scratch)) = (given::<Flow>(flow), scratch::of(HOOK)) else {
        return 0;
    };
    if groups::is_group(flow.source) {
        return 0;
    }
    // SAFETY: the program's context, and this CPU's scratch.
    unsafe {
        let Some(seen) = seen(ctx, flow, scratch) else {
            return 0;
        };
        let class = match flow.service.protocol {
            protocol::TCP => ProbeClass::Syn,
            protocol::UDP => ProbeClass::Udp,
            _ => ProbeClass::IcmpEcho,
        };
        let turned = &raw mut (*scratch).flow;
        (&raw mut (*turned).destination).write(flow.source);
        let Service { protocol, port: local_port } = flow.service;
        (&raw mut (*turned).service).write(Service { protocol, port: flow.source_port });
        (&raw mut (*turned).source_port).write(local_port);
        if matches!(seen, Seen::Crafted) && blocks::refuses(scratch) {
            return 1;
        }
        attempt::count(HOOK, 0, class, seen);
    }
    0
}

/// Finds the actor, and writes its keys into the scratch. Gives nothing for packets that are looked at elsewhere, or not
/// at all.
#[inline(always)]
unsafe fn seen(ctx: *mut __sk_buff, flow: &Flow, scratch: *mut Scratch) -> Option<Seen> {
    // SAFETY: the caller's promise.
    unsafe {
        let socket = (*ctx).__bindgen_anon_2.sk;
        if socket.is_null() {
            if (*ctx).ingress_ifindex != 0 {
                return forwarded(ctx, flow, scratch);
            }
            return crafted(scratch, 0, 0);
        }
        let socket = bpf_sk_fullsock(socket);
        if socket.is_null() {
            return None;
        }
        let (family, kind) =
            ((&raw const (*socket).family).read_volatile(), (&raw const (*socket).type_).read_volatile());
        if family == AF_PACKET {
            return crafted(scratch, 0, marks::PACKET);
        }
        if kind == RAW {
            return crafted(scratch, bpf_get_socket_cookie(ctx.cast()), marks::RAW);
        }
        if kind == DATAGRAM && flow.service.protocol == protocol::UDP {
            let keys = owners::of(bpf_get_socket_cookie(ctx.cast()))?;
            (&raw mut (*scratch).open.keys).write(keys.read());
            (&raw mut (*scratch).about).write(scratch::NOBODY);
            return Some(Seen::Datagram);
        }
    }
    None
}

/// A packet that was made by a raw socket, or by a packet socket: these send from the task itself. Without an owner that
/// is known by the number of the socket, the current task made it.
#[inline(always)]
unsafe fn crafted(scratch: *mut Scratch, cookie: u64, noted: u32) -> Option<Seen> {
    // SAFETY: the caller's promise.
    unsafe {
        let found = actor::find(Hook::Egress, scratch, Kind::Crafter);
        let is_known = found.is_some() && (&raw const (*scratch).marks).read() & marks::KERNEL == 0;
        if cookie != 0
            && let Some(keys) = owners::of(cookie)
        {
            if !is_known || (*keys)[0] != (*scratch).open.keys[0] {
                (&raw mut (*scratch).about).write(scratch::NOBODY);
            }
            (&raw mut (*scratch).open.keys).write(keys.read());
        } else if found.is_none() {
            return None;
        } else if !is_known {
            tally::count(Seen::Unreadable);
            return None;
        }
        let all = &raw mut (*scratch).marks;
        all.write(all.read() | noted);
    }
    Some(Seen::Crafted)
}

/// A connection that a host behind this one opens.
#[inline(always)]
unsafe fn forwarded(ctx: *mut __sk_buff, flow: &Flow, scratch: *mut Scratch) -> Option<Seen> {
    // SAFETY: the caller's promise.
    unsafe {
        if flow.service.protocol != protocol::TCP || INNER.get((*ctx).ingress_ifindex).is_none() {
            return None;
        }
        let key = Key::of_inner(flow.destination, config::salt()).address();
        (&raw mut (*scratch).open.keys[0]).write(key);
        (&raw mut (*scratch).open.keys[1]).write(Address::UNSPECIFIED);
        (&raw mut (*scratch).flow.source).write(flow.destination);
        (&raw mut (*scratch).about).write(scratch::HOST);
        if !table::admits(Scratch::key(scratch, 0)) {
            tally::count(Seen::AtTheDoor);
            return None;
        }
    }
    Some(Seen::Forwarded)
}

/// A segment arrives that answers a SYN: if it was one of a host behind this one, that was answered, or refused.
#[inline(always)]
pub(crate) fn answers_inner(flow: &Flow, is_refused: bool) {
    if config::outbound() && config::control().is_some_and(|control| control.forwards != 0) {
        scanguard_inner_answer(give(Place::Flow, flow), is_refused.into());
    }
}

/// As above. Only what was asked for counts: nobody else can have it answered.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_inner_answer(flow: Given<Flow>, is_refused: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(flow), Some(scratch)) = (given::<Flow>(flow), scratch::of(HOOK)) else {
        return 0;
    };
    // SAFETY: this CPU's scratch: no program of this kind interrupts another one.
    unsafe {
        let key = Key::of_inner(flow.destination, config::salt()).address();
        (&raw mut (*scratch).open.keys[0]).write(key);
        if !table::has(Scratch::key(scratch, 0)) {
            return 0;
        }
        let service = Service { protocol: flow.service.protocol, port: flow.source_port };
        let turned = &raw mut (*scratch).flow;
        (&raw mut (*turned).destination).write(flow.source);
        (&raw mut (*turned).service).write(service);
        (&raw mut (*turned).source_port).write(flow.service.port);
        let name = target(*Scratch::key(scratch, 0), flow.source, service, config::salt());
        if targets::look(name) != targets::FAILED {
            return 0;
        }
        if is_refused == 0 {
            tally::count(Seen::Answered);
            targets::answered(name);
            table::record_open(HOOK, 0, service.port, true);
        } else {
            tally::count(Seen::Failed);
            table::record_answer(HOOK, 0, Answer::Reset);
        }
    }
    0
}
