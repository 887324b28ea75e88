//! The program that counts connections: the kernel's TCP tells it of each one, once, when it is established.
//!
//! Only the kernel is believed about completed connections: anybody can write a segment that looks like one of a
//! connection. Only connections of the agent's network namespace count. In a namespace of its own, any user may make
//! connections with any address.
//!
//! The program also notes the flow of each connection that ends, since late segments may still arrive in it, and when
//! listeners begin and end, and in which connections a client said nothing. What this host itself asks for goes to
//! [`outbound`].

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use scanguard_common::{
    abi::Control,
    address::Address,
    outcome::{Flow, Service},
    proof::Field,
    wire::protocol,
};

use crate::{
    config,
    fields::{AF_INET, AF_INET6, namespace, read, remote},
    listeners, outbound, sources, tally, used,
};

/// States of a socket (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
/// As above: this host asked for a connection, and nobody has answered yet.
const SYN_SENT: i32 = 2;
/// As above: the SYN was answered, and the acknowledgment of the answer has arrived.
const SYN_RECV: i32 = 3;
/// As above: the socket has no connection.
const CLOSE: i32 = 7;
/// As above.
const LISTEN: i32 = 10;

/// Sees each change of state of a TCP socket. The old and the new state lie behind the socket.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_connections(ctx: RawTracePointContext) -> i32 {
    let (before, now) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if !config::proof() {
        return 0;
    }
    let socket = ctx.arg(0);
    if config::outbound() {
        match (before, now) {
            (CLOSE, SYN_SENT) => outbound::opens(socket),
            (SYN_SENT, ESTABLISHED) => outbound::came_about(socket),
            (SYN_SENT, CLOSE) => outbound::failed(socket),
            (_, CLOSE) => outbound::ended(socket),
            (_, LISTEN) => outbound::listens(socket),
            _ => {}
        }
    }
    match (before, now) {
        (_, ESTABLISHED) => established(socket, before == SYN_RECV),
        (_, LISTEN) => listener(socket, listeners::begins),
        (LISTEN, CLOSE) => listener(socket, listeners::ends),
        // Without a connection that was established, nobody could say anything.
        (SYN_SENT | SYN_RECV, CLOSE) => ended(socket, false),
        (_, CLOSE) => ended(socket, true),
        _ => {}
    }
    0
}

/// A listener begins or ends, see [`listeners`].
#[inline(always)]
fn listener(socket: *const u8, note: impl FnOnce(&Control, u16)) {
    // SAFETY: as in `established`. A listener that ends has given its other number of the port back.
    let port =
        unsafe { if is_ours(socket).is_none() { None } else { read::<u16>(socket, Field::LastLocalPort) } };
    if let Some(port) = port
        && let Some(control) = config::control()
    {
        note(control, u16::from_be(port));
    }
}

/// A connection ends, or one that this host wanted does not come about (`was_established`).
#[inline(always)]
fn ended(socket: *const u8, was_established: bool) {
    // SAFETY: as in `established`.
    let Some(flow) = (unsafe { flow_of(socket) }) else {
        return;
    };
    used::note(&flow);
    let Some(control) = config::control() else {
        return;
    };
    // This host may have called from such a port: the kernel does not say which side began.
    let port = flow.service.port;
    if !was_established || control.ports.calls_from(port) {
        return;
    }
    // A listener that was there for one connection only: who reads a file by FTP says nothing.
    if listeners::is_young(control, port) || listeners::was_there(control, port) {
        return;
    }
    // SAFETY: as above.
    let received = unsafe { read::<u64>(socket, Field::Received) };
    if received.is_some_and(|received| received <= AT_THE_END) {
        sources::was_silent(control, flow.source, flow.service);
    }
}

/// How many bytes the kernel counts for a FIN.
const AT_THE_END: u64 = 1;

/// The flow of a connection of our namespace, as its segments arrive.
#[inline(always)]
unsafe fn flow_of(socket: *const u8) -> Option<Flow> {
    // SAFETY: the caller's promise.
    unsafe {
        is_ours(socket)?;
        let port = u16::from_be(read(socket, Field::LastLocalPort)?);
        let source_port = u16::from_be(read(socket, Field::RemotePort)?);
        if source_port == 0 {
            return None;
        }
        let (source, destination) = match read::<u16>(socket, Field::Family)? {
            AF_INET => (
                Address::from_v4(&read::<u32>(socket, Field::RemoteV4)?.to_ne_bytes()),
                Address::from_v4(&read::<u32>(socket, Field::LocalV4)?.to_ne_bytes()),
            ),
            AF_INET6 => (
                Address::from_words(read(socket, Field::RemoteV6)?),
                Address::from_words(read(socket, Field::LocalV6)?),
            ),
            _ => return None,
        };
        let service = Service { protocol: protocol::TCP, port };
        Some(Flow { source, destination, service, source_port, reserved: 0 })
    }
}

/// Something, if a socket belongs to our namespace.
#[inline(always)]
unsafe fn is_ours(socket: *const u8) -> Option<()> {
    // SAFETY: the caller's promise.
    let number = unsafe { namespace(socket)? };
    (number == config::namespace()).then_some(())
}

/// A connection is established. `by_peer`: the peer opened it to a service of this host; otherwise this host opened
/// it.
#[inline(always)]
fn established(socket: *const u8, by_peer: bool) {
    // SAFETY: the kernel's socket. The offsets come from the kernel's BTF; the helper refuses memory that cannot be
    // read.
    let Some((peer, port)) = (unsafe { peer_of(socket) }) else {
        if by_peer {
            outbound::called_elsewhere(socket);
        }
        return;
    };
    if by_peer {
        tally::count_completion();
        outbound::called(peer, port);
    }
    if let Some(control) = config::control() {
        let is_service = by_peer && !listeners::is_young(control, port);
        sources::completed(control, peer, is_service.then_some(Service { protocol: protocol::TCP, port }));
    }
}

/// The remote address of a connection of our namespace, and the local port.
#[inline(always)]
unsafe fn peer_of(socket: *const u8) -> Option<(Address, u16)> {
    // SAFETY: the caller's promise.
    unsafe {
        is_ours(socket)?;
        let port = read(socket, Field::LocalPort)?;
        Some((remote(socket)?, port))
    }
}
