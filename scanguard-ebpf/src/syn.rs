//! The fingerprint of a SYN, see `scanguard_common::syn`.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::{
    packet::Packet as _,
    parse,
    syn::{Fingerprint, Head, MAX_OPTIONS, OPTIONS_ROOM, Options},
};

use crate::{
    argument::{Lent, Place, given_back, lend, lent},
    deep,
    incoming::{self, Context, Incoming, Raw, packet},
    opaque::{bounded, opaque},
};

/// Room for options that are read one by one. The verifier lets nobody read more than a byte at a time at a place of the
/// stack that it does not know.
#[btf_map]
static OPTIONS: PerCpuArray<[u8; OPTIONS_ROOM], 1> = PerCpuArray::new();

/// The last fingerprint that [`scanguard_fingerprint`] took.
#[btf_map]
static LAST: PerCpuArray<Fingerprint, 1> = PerCpuArray::new();

/// Where the headers of a packet are.
#[derive(Clone, Copy)]
pub(crate) enum Found {
    /// The early decision knows the packet: no tags, no IP options.
    Plain,
    /// In place.
    Shallow,
    /// By [`deep::inspect`].
    Deep,
}

/// The fingerprint of a SYN, or none if its options cannot be read. That of a plain one is taken in place.
#[inline(always)]
pub(crate) fn of(ctx: &Context, found: Found) -> Fingerprint {
    let packet = Incoming::new(ctx);
    if matches!(found, Found::Plain)
        && let Some(head) = Head::plain(&packet)
        && let Some(options) = Options::usual(&packet, head.options, head.len)
    {
        return head.with(options);
    }
    if scanguard_fingerprint(incoming::raw(ctx), found as u32) == 0 {
        return Fingerprint::NONE;
    }
    LAST.get(0).copied().unwrap_or(Fingerprint::NONE)
}

/// Takes the fingerprint of any SYN into [`LAST`], or gives 0. A global function, for the reason that [`crate::judge`]
/// gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_fingerprint(ctx: *mut Raw, found: u32) -> u32 {
    // SAFETY: this CPU's entry of a map, used by one packet at a time.
    let Some(into) = LAST.get_ptr_mut(0).map(|last| unsafe { &mut *last }) else {
        return 0;
    };
    let packet = packet(ctx);
    let (head, offset) = if found == Found::Deep as u32 {
        let Some(deep) = deep::headers() else {
            return 0;
        };
        let Some(headers) = deep.headers() else {
            return 0;
        };
        let Some(head) = Head::behind(deep, &headers) else {
            return 0;
        };
        (head, deep.in_frame(head.options))
    } else {
        let Ok(headers) = parse::parse(&packet) else {
            return 0;
        };
        let Some(head) = Head::behind(&packet, &headers) else {
            return 0;
        };
        (head, head.options)
    };
    // Otherwise the compiler compares another copy of the number with the bound, which the verifier of Linux 6.1 does not
    // follow.
    let offset = opaque(offset);
    if let Some(options) = Options::usual(&packet, offset, head.len) {
        *into = head.with(options);
        return 1;
    }
    let mut options = Options::EMPTY;
    if scanguard_syn_options(ctx, offset as u32, head.len as u32, lend(Place::Options, &mut options)) == 0 {
        return 0;
    }
    given_back(Place::Options, &mut options);
    *into = head.with(options);
    1
}

/// As above: reads options one by one. Gives 0 if they are not in the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_syn_options(ctx: *mut Raw, offset: u32, len: u32, into: Lent<Options>) -> u32 {
    let Some(into) = lent::<Options>(into) else {
        return 0;
    };
    // SAFETY: this CPU's entry of a map, used by one packet at a time.
    let Some(bytes) = OPTIONS.get_ptr_mut(0).map(|bytes| unsafe { &mut *bytes }) else {
        return 0;
    };
    let Some(len) = bounded(len as usize, MAX_OPTIONS) else {
        return 0;
    };
    if !bytes.get_mut(..len).is_some_and(|part| packet(ctx).load(offset as usize, part)) {
        return 0;
    }
    *into = Options::parse(bytes, len);
    1
}
