//! The program that counts connections: the kernel's TCP tells it of each one, once, when it is established.
//!
//! Only the kernel is believed about completed connections: anybody can write a segment that looks like one of a
//! connection. Only connections of the agent's network namespace count. In a namespace of its own, any user may make
//! connections with any address.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use scanguard_common::{address::Address, outcome::Service, proof::Field, wire::protocol};

use crate::{config, fields::read, sources, tally};

/// States of a socket (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
/// As above: the SYN was answered, and the acknowledgment of the answer has arrived.
const SYN_RECV: i32 = 3;
/// Address families (include/linux/socket.h).
const AF_INET: u16 = 2;
/// As above.
const AF_INET6: u16 = 10;

/// Sees each change of state of a TCP socket. The old and the new state lie behind the socket.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the signature that the macro calls")]
pub(crate) fn scanguard_connections(ctx: RawTracePointContext) -> i32 {
    let (before, now) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if now == ESTABLISHED && config::proof() {
        established(ctx.arg(0), before == SYN_RECV);
    }
    0
}

/// A connection is established. `by_peer`: the peer opened it to a service of this host; otherwise this host opened
/// it.
#[inline(always)]
fn established(socket: *const u8, by_peer: bool) {
    // SAFETY: the kernel's socket. The offsets come from the kernel's BTF; the helper refuses memory that cannot be
    // read.
    let Some((peer, port)) = (unsafe { peer_of(socket) }) else {
        return;
    };
    if by_peer {
        tally::count_completion();
    }
    if let Some(control) = config::control() {
        sources::completed(control, peer, by_peer.then_some(Service { protocol: protocol::TCP, port }));
    }
}

/// The remote address of a connection of our namespace, and the local port.
#[inline(always)]
unsafe fn peer_of(socket: *const u8) -> Option<(Address, u16)> {
    // SAFETY: the caller's promise.
    unsafe {
        let namespace: *const u8 = read(socket, Field::Namespace)?;
        if read::<u32>(namespace, Field::NamespaceNumber)? != config::namespace() {
            return None;
        }
        let port = read(socket, Field::LocalPort)?;
        let peer = match read::<u16>(socket, Field::Family)? {
            // Plain numbers, whose place on the stack is aligned: the verifier refuses any other.
            AF_INET => Address::from_v4(&read::<u32>(socket, Field::RemoteV4)?.to_ne_bytes()),
            AF_INET6 => Address::from_words(read(socket, Field::RemoteV6)?),
            _ => return None,
        };
        Some((peer, port))
    }
}
