//! The kernel half of `scanguard_common::oracle`: asks the socket tables.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple},
    btf_maps::Array,
    helpers::{
        bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock,
        bpf_skc_to_tcp_sock,
    },
    macros::btf_map,
};
use scanguard_common::{
    abi::{Control, MAX_OWN_MACS, own_mac},
    address::Address,
    oracle::{self, Home, Oracle, Reach, Socket},
    outcome::{Flow, Service},
    proof::{self, Expected, Field, Numbers},
};

use crate::{
    argument::{Given, Place, give, given},
    config,
    fields::{is_transparent, read},
    home,
    incoming::{self, Raw},
    reach, used,
};

/// States of `struct bpf_sock` (include/net/tcp_states.h) before a handshake is completed.
const SYN_SENT: u32 = 2;
/// As above.
const SYN_RECV: u32 = 3;
/// As above: the state of a listening socket.
const LISTEN: u32 = 10;
/// As above.
const NEW_SYN_RECV: u32 = 12;
/// As above: a socket without a connection.
const CLOSED: u32 = 7;
/// No state of any socket.
const NO_SOCKET: u32 = 0;
/// No state of any socket: it listens, and may own addresses of others.
const LISTEN_FOR_ANY: u32 = 256;

/// The number of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK: u32 = 1;

/// See `scanguard_common::abi`.
#[btf_map]
static OWN_MACS: Array<u64, { MAX_OWN_MACS as usize }> = Array::new();

/// Asks the kernel, in the network namespace of the interface.
pub(crate) struct Kernel<'c> {
    ctx: *mut Raw,
    control: &'c Control,
}

impl<'c> Kernel<'c> {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut Raw, control: &'c Control) -> Self {
        Self { ctx, control }
    }

    /// The number of the packet's incoming interface: a socket may be bound to it.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        incoming::interface(self.ctx)
    }

    /// Whether the frame is for another host of the link.
    #[inline(always)]
    pub(crate) fn overhears(&self) -> bool {
        !self.is_addressed(true)
    }

    /// Whether the frame is for this interface; `otherwise`, where the interface's address is not known.
    #[inline(always)]
    fn is_addressed(&self, otherwise: bool) -> bool {
        // SAFETY: the program's context.
        let (data, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let interface = self.interface();
        let own = OWN_MACS.get(interface % MAX_OWN_MACS).copied().unwrap_or_default();
        if own == 0 {
            return otherwise;
        }
        if data + size_of::<u64>() > end {
            return otherwise;
        }
        // SAFETY: the comparison above has shown that these bytes are within the packet.
        let first = unsafe { (data as *const u64).read_unaligned() };
        own_mac(interface, first) == own
    }

    /// Whether no other host can have this address, see [`oracle::is_bad_source`].
    #[inline(always)]
    pub(crate) fn is_bad_source(&self, source: &Address) -> bool {
        self.interface() != LOOPBACK && scanguard_is_bad_source(give(Place::BadSource, source)) != 0
    }

    /// The position of a segment in its stream, if its numbers prove that the source of its flow sent it, see
    /// `scanguard_common::proof`.
    #[inline(always)]
    pub(crate) fn proves(&self, flow: &Flow, numbers: Numbers) -> Option<u64> {
        if !config::proof() {
            return None;
        }
        // SAFETY: a socket, as long as it is not released.
        socket(self.ctx.cast(), flow, tcp, |socket| unsafe { fits(socket, numbers) })?
    }
}

/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn scanguard_is_bad_source(source: Given<Address>) -> u32 {
    let (Some(source), Some(control)) = (given::<Address>(source), config::control()) else {
        return 0;
    };
    // The home addresses are in maps: no context is needed.
    oracle::is_bad_source(&Kernel::new(core::ptr::null_mut(), control), *source).into()
}

/// The position of a segment whose numbers fit a socket, whether its handshake is completed or not. A socket in
/// TIME_WAIT never fits.
#[inline(always)]
unsafe fn fits(socket: *mut bpf_sock, numbers: Numbers) -> Option<u64> {
    // SAFETY: the caller's socket, and the fields that it has by the kernel's BTF.
    unsafe {
        // These have no numbers of a connection: all are 0, or this host alone chose them.
        if matches!((*socket).state, LISTEN | CLOSED | SYN_SENT) {
            return None;
        }
        let connected: *const u8 = bpf_skc_to_tcp_sock(socket.cast()).cast();
        if !connected.is_null() {
            let wanted = read(connected, Field::Wanted)?;
            let received = read(connected, Field::Received)?;
            let unacknowledged = read(connected, Field::Unacknowledged)?;
            let next_sent = read(connected, Field::NextSent)?;
            let fits = proof::fits(numbers, Expected { wanted, unacknowledged, next_sent });
            return fits.then(|| proof::position(numbers, wanted, received));
        }
        let request: *const u8 = bpf_skc_to_tcp_request_sock(socket.cast()).cast();
        if request.is_null() {
            return None;
        }
        let client_first = read(request, Field::ClientFirst)?;
        let our_first = read(request, Field::OurFirst)?;
        // Nothing was received yet.
        proof::fits_request(numbers, client_first, our_first).then_some(0)
    }
}

type LookUp = unsafe fn(*mut c_void, *mut bpf_sock_tuple, u32) -> *mut bpf_sock;

unsafe fn tcp(ctx: *mut c_void, tuple: *mut bpf_sock_tuple, size: u32) -> *mut bpf_sock {
    // SAFETY: the caller's context and tuple.
    unsafe { bpf_skc_lookup_tcp(ctx, tuple, size, CURRENT_NAMESPACE, 0) }
}

unsafe fn udp(ctx: *mut c_void, tuple: *mut bpf_sock_tuple, size: u32) -> *mut bpf_sock {
    // SAFETY: the caller's context and tuple.
    unsafe { bpf_sk_lookup_udp(ctx, tuple, size, CURRENT_NAMESPACE, 0) }
}

const CURRENT_NAMESPACE: u64 = BPF_F_CURRENT_NETNS as i64 as u64;

/// The state of the socket that wants a flow.
#[inline(always)]
fn socket_state(ctx: *mut c_void, flow: &Flow, look_up: LookUp) -> Option<u32> {
    // SAFETY: a socket, as long as it is not released.
    socket(ctx, flow, look_up, |socket| unsafe { (*socket).state })
}

/// Whether a socket wants a TCP segment of this flow.
#[inline(always)]
pub(crate) fn has_socket(ctx: *mut c_void, flow: &Flow) -> bool {
    socket_state(ctx, flow, tcp).is_some()
}

/// Whether a socket that listens would get a TCP segment of this flow.
#[inline(always)]
pub(crate) fn is_listening(ctx: *mut c_void, flow: &Flow) -> bool {
    socket_state(ctx, flow, tcp) == Some(LISTEN)
}

/// The state of the socket that wants a TCP segment, or [`NO_SOCKET`]. It is one function for all callers: if it is
/// inlined several times, the compiler keeps parts of addresses in registers that the verifier considers unset.
#[inline(never)]
fn tcp_state(ctx: *mut c_void, flow: &Flow) -> u32 {
    // SAFETY: a socket, as long as it is not released.
    socket(ctx, flow, tcp, |socket| unsafe { listening_state(socket) }).unwrap_or(NO_SOCKET)
}

/// The state of a socket, or [`LISTEN_FOR_ANY`].
#[inline(always)]
unsafe fn listening_state(socket: *mut bpf_sock) -> u32 {
    // SAFETY: the caller's socket.
    unsafe {
        let state = (*socket).state;
        if state != LISTEN || !config::proof() {
            return state;
        }
        let connected: *const u8 = bpf_skc_to_tcp_sock(socket.cast()).cast();
        if !connected.is_null() && is_transparent(connected) { LISTEN_FOR_ANY } else { LISTEN }
    }
}

/// The facts that the program needs about the socket that wants a flow.
#[inline(always)]
fn socket<R>(
    ctx: *mut c_void,
    flow: &Flow,
    look_up: LookUp,
    ask: impl FnOnce(*mut bpf_sock) -> R,
) -> Option<R> {
    let mut tuple = MaybeUninit::<bpf_sock_tuple>::uninit();
    let tuple = tuple.as_mut_ptr();
    // SAFETY: a local union. All bytes of the family whose size is passed on are written. The union is not zeroed
    // before, because that would be a call that writes single bytes. A socket that is found is released once, after it
    // was asked.
    unsafe {
        let size = match (flow.source.v4(), flow.destination.v4()) {
            (Some(source), Some(destination)) => {
                let ipv4 = &raw mut (*tuple).__bindgen_anon_1.ipv4;
                (*ipv4).saddr = u32::from_ne_bytes(source);
                (*ipv4).daddr = u32::from_ne_bytes(destination);
                (*ipv4).sport = flow.source_port.to_be();
                (*ipv4).dport = flow.service.port.to_be();
                size_of_val(&*ipv4)
            }
            _ => {
                let ipv6 = &raw mut (*tuple).__bindgen_anon_1.ipv6;
                (&raw mut (*ipv6).saddr).cast::<[u64; 2]>().write_unaligned(flow.source.words());
                (&raw mut (*ipv6).daddr).cast::<[u64; 2]>().write_unaligned(flow.destination.words());
                (*ipv6).sport = flow.source_port.to_be();
                (*ipv6).dport = flow.service.port.to_be();
                size_of_val(&*ipv6)
            }
        };
        let socket = look_up(ctx, tuple, size as u32);
        if socket.is_null() {
            return None;
        }
        let answer = ask(socket);
        bpf_sk_release(socket.cast());
        Some(answer)
    }
}

impl Oracle for Kernel<'_> {
    #[inline(always)]
    fn tcp(&self, flow: &Flow) -> Socket {
        match tcp_state(self.ctx.cast(), flow) {
            NO_SOCKET => Socket::None,
            LISTEN => Socket::Listening,
            LISTEN_FOR_ANY => Socket::ListeningForAny,
            SYN_SENT => Socket::Calling,
            SYN_RECV | NEW_SYN_RECV => Socket::Pending,
            _ => Socket::Connected,
        }
    }

    #[inline(always)]
    fn udp(&self, flow: &Flow) -> bool {
        socket_state(self.ctx.cast(), flow, udp).is_some()
    }

    #[inline(always)]
    fn home(&self, address: Address) -> Home {
        home::of(address, self.control)
    }

    #[inline(always)]
    fn published(&self, address: Address, service: Service) -> bool {
        home::published(address, service, self.control)
    }

    #[inline(always)]
    fn forwards(&self) -> bool {
        self.control.forwards != 0
    }

    #[inline(always)]
    fn used(&self, flow: &Flow) -> bool {
        used::was(flow)
    }

    #[inline(always)]
    fn calls_from(&self, port: u16) -> bool {
        self.control.ports.calls_from(port)
    }

    #[inline(always)]
    fn is_last_hop(&self) -> bool {
        self.control.forwards == 0 && self.is_addressed(false)
    }

    #[inline(always)]
    fn sees_leaving(&self) -> bool {
        self.control.sees_leaving != 0
    }

    #[inline(always)]
    fn unwanted(&self, flow: &Flow) -> Reach {
        reach::of(self, self.interface(), self.control, false, flow)
    }
}
