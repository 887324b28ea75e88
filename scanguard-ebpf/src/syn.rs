//! The fingerprint of a SYN, see `scanguard_common::syn`.

use aya_ebpf::{bindings::xdp_md, btf_maps::PerCpuArray, macros::btf_map, programs::XdpContext};
use scanguard_common::{
    packet::Packet as _,
    parse,
    syn::{Fingerprint, Head, MAX_OPTIONS, OPTIONS_ROOM, Options},
};

use crate::{deep, opaque::bounded, packet::XdpPacket};

/// Room for options that are read one by one. The verifier lets nobody read more than a byte at a time at a place of the
/// stack that it does not know.
#[btf_map]
static OPTIONS: PerCpuArray<[u8; OPTIONS_ROOM], 1> = PerCpuArray::new();

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

/// Where a global function is told, in the word that has the kind of the packet: above it.
const SHIFT: u32 = 16;

impl Found {
    /// The bits that say so.
    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        (self as u32) << SHIFT
    }

    /// The word without them.
    #[inline(always)]
    pub(crate) fn without(word: u32) -> u32 {
        word & ((1 << SHIFT) - 1)
    }

    /// What the bits of a word say.
    #[inline(always)]
    pub(crate) fn of(word: u32) -> Self {
        match word >> SHIFT {
            0 => Self::Plain,
            1 => Self::Shallow,
            _ => Self::Deep,
        }
    }
}

#[inline(always)]
fn packet(ctx: *mut xdp_md) -> XdpPacket {
    XdpPacket::new(&XdpContext::new(ctx))
}

/// The fingerprint of a SYN, or none if its options cannot be read.
#[inline(always)]
pub(crate) fn fingerprint(ctx: *mut xdp_md, found: Found) -> Fingerprint {
    if matches!(found, Found::Plain) {
        let packet = packet(ctx);
        if let Some(head) = Head::plain(&packet)
            && let Some(options) = Options::usual(&packet, head.options, head.len)
        {
            return head.with(options);
        }
    }
    let mut fingerprint = Fingerprint::NONE;
    scanguard_fingerprint(ctx, found as u32, &raw mut fingerprint);
    fingerprint
}

/// A global function, for the reason that [`crate::judge`] gives: the fingerprint of a SYN whose headers or options are
/// not those of most SYNs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_fingerprint(ctx: *mut xdp_md, found: u32, into: *mut Fingerprint) -> u32 {
    // SAFETY: the caller's. The verifier knows its size, but not that it is there.
    let Some(into) = (unsafe { into.as_mut() }) else {
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
    if let Some(options) = Options::usual(&packet, offset, head.len) {
        *into = head.with(options);
        return 1;
    }
    let mut options = Options::EMPTY;
    if scanguard_syn_options(ctx, offset as u32, head.len as u32, &raw mut options) == 0 {
        return 0;
    }
    *into = head.with(options);
    1
}

/// As above: reads options one by one. Gives 0 if they are not in the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_syn_options(ctx: *mut xdp_md, offset: u32, len: u32, into: *mut Options) -> u32 {
    // SAFETY: as above.
    let Some(into) = (unsafe { into.as_mut() }) else {
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
