//! Calls of processes: connect(2) and sendto(2) of sockets of the IP family, and socket(2) for raw sockets.
//!
//! Connected datagram sockets only note their owner here, since resolvers connect them to compare source addresses and
//! send nothing: [`super::leaves`] sees what leaves. Connections are counted by [`super::sockets`].

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_get_socket_cookie,
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use scanguard_common::{
    actor::{Kind, Seen, marks},
    address::Address,
    outcome::{ProbeClass, Service},
    wire::protocol,
};

use super::{
    actor, attempt, blocks, groups, identity, owners,
    scratch::{self, Hook},
    table, tally,
};
use crate::{
    argument::{Given, Place, give, given},
    config, home,
    opaque::masked,
};

/// Types of sockets (include/linux/net.h).
const STREAM: u32 = 1;
/// As above.
const DATAGRAM: u32 = 2;
/// As above.
const RAW: u32 = 3;

/// The call is permitted.
const YES: i32 = 1;

const HOOK: u32 = Hook::Group as u32;

/// connect(2) to an address of IPv4.
#[cgroup_sock_addr(connect4)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_connect4(ctx: SockAddrContext) -> i32 {
    asks(ctx.sock_addr, false, false)
}

/// The same of IPv6.
#[cgroup_sock_addr(connect6)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_connect6(ctx: SockAddrContext) -> i32 {
    asks(ctx.sock_addr, true, false)
}

/// sendto(2) to an address of IPv4, of a datagram socket that is not connected.
#[cgroup_sock_addr(sendmsg4)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_sendmsg4(ctx: SockAddrContext) -> i32 {
    asks(ctx.sock_addr, false, true)
}

/// The same of IPv6.
#[cgroup_sock_addr(sendmsg6)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_sendmsg6(ctx: SockAddrContext) -> i32 {
    asks(ctx.sock_addr, true, true)
}

/// socket(2) of the IP families.
#[cgroup_sock(sock_create)]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the program's context.
    if !config::outbound() || unsafe { (*ctx.sock).type_ } != RAW {
        return YES;
    }
    verdict(scanguard_raw(cookie(ctx.sock)))
}

/// A refused call (1) fails with EPERM (0). The verifier wants to see that it is one of the two.
#[inline(always)]
fn verdict(refused: u32) -> i32 {
    (masked::<1>(refused as usize) as u32).cast_signed() ^ YES
}

#[inline(always)]
fn cookie<C>(ctx: *mut C) -> u64 {
    // SAFETY: the program's context.
    unsafe { bpf_get_socket_cookie(ctx.cast()) }
}

/// The current task has a socket ask for something at an address.
#[inline(always)]
fn asks(ctx: *mut bpf_sock_addr, is_v6: bool, is_sent: bool) -> i32 {
    if !config::outbound() {
        return YES;
    }
    // SAFETY: the program's context. The reads are volatile: the verifier wants them as the context has them.
    unsafe {
        match (&raw const (*ctx).type_).read_volatile() {
            STREAM if blocks::any() => {}
            DATAGRAM if (&raw const (*ctx).protocol).read_volatile() == protocol::UDP.into() => {}
            _ => return YES,
        }
        let word = |place: usize| u64::from((&raw const (*ctx).user_ip6[place]).read_volatile());
        let address = if is_v6 {
            Address::from_words([joined(word(0), word(1)), joined(word(2), word(3))])
        } else {
            Address::from_v4(&(&raw const (*ctx).user_ip4).read_volatile().to_ne_bytes())
        };
        let port = u16::from_be((&raw const (*ctx).user_port).read_volatile() as u16);
        let socket: *mut bpf_sock = (*ctx).__bindgen_anon_1.sk;
        if socket.is_null() {
            return YES;
        }
        let local_port = (&raw const (*socket).src_port).read_volatile() as u16;
        let is_datagram = (&raw const (*ctx).type_).read_volatile() == DATAGRAM;
        let how = if !is_datagram {
            CONNECTION
        } else if is_sent {
            SENT
        } else {
            CONNECTED
        };
        let ports = u32::from(local_port) << 16 | u32::from(port);
        verdict(scanguard_asks(cookie(ctx), give(Place::Target, &address), ports, how))
    }
}

/// Two parts of an address as one native word.
#[inline(always)]
const fn joined(first: u64, second: u64) -> u64 {
    if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
}

/// A connection is asked for.
const CONNECTION: u32 = 0;
/// A datagram socket is connected.
const CONNECTED: u32 = 1;
/// A datagram is sent.
const SENT: u32 = 2;

/// As [`asks`], with the local port in the upper half of `ports`. Gives 1 if the call is refused. A global function, for
/// the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_asks(cookie: u64, address: Given<Address>, ports: u32, how: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let (Some(address), Some(control)) = (given::<Address>(address), config::control()) else {
        return 0;
    };
    let (local_port, port) = ((ports >> 16) as u16, ports as u16);
    // A service answers from its port: that is no call. Only a blocked actor is looked up.
    let is_call = how != CONNECTION && (local_port == 0 || control.ports.calls_from(local_port));
    if !is_call && !blocks::any() || groups::is_group(*address) {
        return 0;
    }
    if address.is_loopback() || home::is_ours(*address) {
        tally::count(Seen::Own);
        return 0;
    }
    let Some(scratch) = scratch::take() else {
        return 0;
    };
    // SAFETY: this CPU's scratch.
    unsafe {
        let flow = &raw mut (*scratch).flow;
        (&raw mut (*flow).destination).write(*address);
        (&raw mut (*flow).service).write(Service { protocol: protocol::UDP, port });
        (&raw mut (*flow).source_port).write(local_port);
        let mut refused = 0;
        if actor::find(Hook::Group, scratch, Kind::Program).is_none() {
            // It was counted why.
        } else if blocks::refuses(scratch) {
            refused = 1;
        } else if is_call && how == SENT {
            attempt::count(HOOK, 0, ProbeClass::Udp, Seen::Datagram);
        } else if is_call {
            owners::note(cookie, &(*scratch).open.keys);
        }
        scratch::give_back(scratch);
        refused
    }
}

/// The current task opens a raw socket. Gives 1 if that is refused.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_raw(cookie: u64) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::take() else {
        return 0;
    };
    let mut refused = 0;
    // SAFETY: this CPU's scratch.
    unsafe {
        if actor::find(Hook::Group, scratch, Kind::Crafter).is_none() {
            // It was counted why.
        } else if blocks::refuses(scratch) {
            refused = 1;
        } else {
            let noted = &raw mut (*scratch).marks;
            noted.write(noted.read() | marks::RAW);
            owners::note(cookie, &(*scratch).open.keys);
            if table::enter(HOOK) && identity::take(HOOK) {
                identity::keep(scratch, 0);
            }
            tally::count(Seen::RawSocket);
        }
        scratch::give_back(scratch);
    }
    refused
}
