//! The traces in a SYN of the program that made it.
//!
//! The stack of a system puts the same options in the same order into each of its SYNs. Scanners that build their own
//! SYNs do not care: they send one option or none, a small window, or numbers that no stack would choose. A
//! [`Fingerprint`] has what JA4T has (the window, the kinds of the options, MSS and window scale), and [`Mark`]s beside
//! it. Everything in it is the sender's choice: anybody can write any of it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    numbered,
    packet::Packet,
    parse::{self, Headers, deep::Deep},
    wire::{Ethernet, Ipv4, Ipv6, PlainTcp4, PlainTcp6, Tcp, ethertype},
};

numbered! {
    /// A property of a SYN that JA4T does not have.
    Mark[MARKS] {
        /// IPv4: the packet must not be fragmented.
        DontFragment = "df",
        /// The time to live, or hop limit, is at most 64, as with the start value of Linux and of BSD.
        Ttl64 = "ttl64",
        /// It is from 65 to 128, as with the start value of Windows.
        Ttl128 = "ttl128",
        /// It is above 128.
        Ttl255 = "ttl255",
        /// The identification of the IPv4 header is 54321, as ZMap had it until version 3.
        Id54321 = "id=54321",
        /// The identification is the exclusive or of destination address, destination port and sequence number, as
        /// masscan has it.
        IdMasscan = "id=masscan",
        /// The sequence number is the IPv4 destination address, as Mirai has it.
        SequenceDestination = "seq=dst",
        /// The sequence number is 0.
        SequenceZero = "seq=0",
        /// The acknowledgment number is not 0, though a SYN acknowledges nothing.
        Acknowledges = "ack",
        /// An option has an impossible length, or ends behind the header.
        BrokenOptions = "broken",
    }
}

impl Mark {
    /// The mark as a bit of [`Fingerprint::marks`].
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// How many kinds of options a fingerprint has at most. The longest SYNs of real stacks have nine; further kinds are
/// left out.
pub const MAX_KINDS: usize = 12;
/// Bits of a kind in [`Fingerprint::layout`].
const KIND_BITS: u32 = 5;
/// Stands for all kinds from 31 on.
pub const OTHER_KIND: u8 = 31;
/// The bit in front of the kinds, by which the fingerprint knows how many there are.
const START: u64 = 1;
/// Bytes of options that a TCP header can have (RFC 9293, 3.1).
pub const MAX_OPTIONS: usize = 40;
/// Room for them. It is a power of two, so that the verifier can follow the bounds of an index.
pub const OPTIONS_ROOM: usize = 64;

/// Places of the parts of [`Fingerprint::values`].
const WINDOW: u32 = 48;
/// As above.
const MSS: u32 = 32;
/// As above.
const SCALE: u32 = 24;
/// The marks have the rest.
const MARKS_MASK: u64 = (1 << SCALE) - 1;
const _: () = assert!(MARKS <= SCALE as usize && MAX_KINDS as u32 * KIND_BITS < KEPT.trailing_zeros());

/// The kinds of TCP options (IANA).
mod kind {
    /// The end of the options.
    pub(super) const END: u8 = 0;
    /// Nothing: it aligns other options.
    pub(super) const NOTHING: u8 = 1;
    /// The maximum segment size.
    pub(super) const MSS: u8 = 2;
    /// The window scale.
    pub(super) const SCALE: u8 = 3;
    /// Selective acknowledgments are permitted.
    pub(super) const SACK: u8 = 4;
    /// Timestamps.
    pub(super) const TIMESTAMPS: u8 = 8;
}

/// The traces of a SYN's maker, in two words that are quickly compared.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Fingerprint {
    /// The kinds of the options in their order, 5 bits each, behind a bit that is 1. 0: there is no fingerprint.
    pub layout: u64,
    /// From the upper bits on: window, MSS, window scale and marks. Absent options are 0.
    pub values: u64,
}

impl Fingerprint {
    /// None: the headers cannot be read.
    pub const NONE: Self = Self { layout: 0, values: 0 };

    /// A fingerprint of these parts, where 0 stands for an option that is absent.
    pub fn new(window: u16, kinds: impl Iterator<Item = u8>, mss: u16, scale: u8, marks: u64) -> Self {
        let values = u64::from(window) << WINDOW | u64::from(mss) << MSS | u64::from(scale) << SCALE;
        Self { layout: Self::layout_of(kinds), values: values | marks & MARKS_MASK }
    }

    /// Whether there is none.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.layout == 0
    }

    /// The window, as in the header.
    pub const fn window(self) -> u16 {
        (self.values >> WINDOW) as u16
    }

    /// The maximum segment size, 0 if there is none.
    pub const fn mss(self) -> u16 {
        (self.values >> MSS) as u16
    }

    /// The window scale, 0 if there is none.
    pub const fn scale(self) -> u8 {
        (self.values >> SCALE) as u8
    }

    /// The marks, see [`Mark::bit`].
    pub const fn marks(self) -> u64 {
        self.values & MARKS_MASK
    }

    /// The kinds of the options in their order. [`OTHER_KIND`] stands for all from 31 on.
    pub fn kinds(self) -> impl Iterator<Item = u8> {
        let count = (u64::BITS - self.layout.leading_zeros()).saturating_sub(1) / KIND_BITS;
        (0..count).rev().map(move |place| (self.layout >> (place * KIND_BITS)) as u8 & OTHER_KIND)
    }

    /// The layout of these kinds, as far as it has room for them.
    pub fn layout_of(kinds: impl Iterator<Item = u8>) -> u64 {
        kinds.take(MAX_KINDS).fold(START, append)
    }
}

/// Adds a kind to a layout.
#[inline(always)]
const fn append(layout: u64, kind: u8) -> u64 {
    layout << KIND_BITS | if kind < OTHER_KIND { kind as u64 } else { OTHER_KIND as u64 }
}

/// The options of a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Options {
    /// As [`Fingerprint::layout`].
    pub layout: u64,
    /// As [`Fingerprint::values`]: MSS, window scale, and the mark of broken options.
    pub values: u64,
}

/// Layouts that most SYNs have. Their kinds are compared in place.
const MSS_ALONE: u64 = append(START, kind::MSS);
/// Linux: MSS, SACK permitted, timestamps, nothing, window scale.
const LINUX: u64 = {
    let layout = append(append(append(START, kind::MSS), kind::SACK), kind::TIMESTAMPS);
    append(append(layout, kind::NOTHING), kind::SCALE)
};
/// Windows: MSS, nothing, window scale, nothing, nothing, SACK permitted.
const WINDOWS: u64 = {
    let layout = append(append(append(START, kind::MSS), kind::NOTHING), kind::SCALE);
    append(append(append(layout, kind::NOTHING), kind::NOTHING), kind::SACK)
};

impl Options {
    /// No options.
    pub const EMPTY: Self = Self { layout: START, values: 0 };

    #[inline(always)]
    const fn new(layout: u64, mss: [u8; 2], scale: u8) -> Self {
        Self { layout, values: (u16::from_be_bytes(mss) as u64) << MSS | (scale as u64) << SCALE }
    }

    /// The options of `len` bytes at this offset, if they are laid out as those of most SYNs: none, MSS alone, Linux or
    /// Windows. It costs a few comparisons.
    #[inline(always)]
    pub fn usual<P: Packet>(packet: &P, offset: usize, len: usize) -> Option<Self> {
        match len {
            0 => Some(Self::EMPTY),
            4 => {
                let [a, b, mss @ ..] = packet.view::<[u8; 4]>(offset)?;
                ([*a, *b] == [kind::MSS, 4]).then(|| Self::new(MSS_ALONE, *mss, 0))
            }
            20 => {
                let options = packet.view::<[u8; 20]>(offset)?;
                let [a, b, m0, m1, c, d, e, f, .., g, h, i, scale] = *options;
                let is_so = [a, b] == [kind::MSS, 4]
                    && [c, d, e, f] == [kind::SACK, 2, kind::TIMESTAMPS, 10]
                    && [g, h, i] == [kind::NOTHING, kind::SCALE, 3];
                is_so.then(|| Self::new(LINUX, [m0, m1], scale))
            }
            12 => {
                let options = packet.view::<[u8; 12]>(offset)?;
                let [a, b, m0, m1, c, d, e, scale, f, g, h, i] = *options;
                let is_so = [a, b] == [kind::MSS, 4]
                    && [c, d, e] == [kind::NOTHING, kind::SCALE, 3]
                    && [f, g, h, i] == [kind::NOTHING, kind::NOTHING, kind::SACK, 2];
                is_so.then(|| Self::new(WINDOWS, [m0, m1], scale))
            }
            _ => None,
        }
    }

    /// The options in the first `len` bytes. As in JA4T, each byte of padding behind the end is one more option of the
    /// kind 0.
    #[inline(always)]
    pub fn parse(bytes: &[u8; OPTIONS_ROOM], len: usize) -> Self {
        let mut options = Self::EMPTY;
        let mut at = 0;
        for _ in 0..MAX_KINDS {
            if at >= len {
                break;
            }
            let kind = byte(bytes, at);
            options.layout = append(options.layout, kind);
            if kind == kind::END || kind == kind::NOTHING {
                at += 1;
                continue;
            }
            let length = usize::from(byte(bytes, at + 1));
            if at + 1 >= len || length < 2 || at + length > len {
                options.values |= Mark::BrokenOptions.bit();
                break;
            }
            if kind == kind::MSS && length == 4 {
                let mss = u16::from_be_bytes([byte(bytes, at + 2), byte(bytes, at + 3)]);
                options.values |= u64::from(mss) << MSS;
            }
            if kind == kind::SCALE && length == 3 {
                options.values |= u64::from(byte(bytes, at + 2)) << SCALE;
            }
            at += length;
        }
        options
    }

    /// The options of `len` bytes at this offset.
    #[inline(always)]
    pub fn read<P: Packet>(packet: &P, offset: usize, len: usize) -> Option<Self> {
        if let Some(usual) = Self::usual(packet, offset, len) {
            return Some(usual);
        }
        let mut bytes = [0; OPTIONS_ROOM];
        let part = bytes.get_mut(..len.min(MAX_OPTIONS))?;
        packet.load(offset, part).then(|| Self::parse(&bytes, len))
    }
}

#[inline(always)]
fn byte(bytes: &[u8; OPTIONS_ROOM], at: usize) -> u8 {
    // The compiler knows that the place is within the options, and would leave the mask out. The verifier of Linux 6.1 does
    // not know it.
    bytes[core::hint::black_box(at) & (OPTIONS_ROOM - 1)]
}

/// The traces in the headers of a SYN, without its options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// As [`Fingerprint::values`]: window and marks.
    values: u64,
    /// Offset of the options.
    pub options: usize,
    /// Their length in bytes, at most [`MAX_OPTIONS`].
    pub len: usize,
}

impl Head {
    #[inline(always)]
    fn new(marks: u64, tcp: &Tcp, at: usize, transport_len: usize) -> Self {
        let header_len = tcp.header_len().min(transport_len);
        Self {
            values: u64::from(tcp.window.get()) << WINDOW | marks,
            options: at + size_of::<Tcp>(),
            len: header_len.saturating_sub(size_of::<Tcp>()).min(MAX_OPTIONS),
        }
    }

    /// Of a packet that [`crate::classify::early`] recognized as an opening.
    #[inline(always)]
    pub fn plain<P: Packet>(packet: &P) -> Option<Self> {
        let frame = packet.view::<PlainTcp4>(0)?;
        // The early decision has compared the length of the header with that of the packet.
        if frame.ethernet.ethertype.get() == ethertype::IPV4 {
            let at = size_of::<Ethernet>() + size_of::<Ipv4>();
            return Some(Self::new(marks_v4(&frame.ip, &frame.tcp), &frame.tcp, at, usize::MAX));
        }
        let frame = packet.view::<PlainTcp6>(0)?;
        let at = size_of::<Ethernet>() + size_of::<Ipv6>();
        Some(Self::new(marks_v6(&frame.ip, &frame.tcp), &frame.tcp, at, usize::MAX))
    }

    /// Of a packet with these headers, which is a SYN.
    #[inline(always)]
    pub fn behind<P: Packet>(packet: &P, headers: &Headers) -> Option<Self> {
        let tcp = packet.view::<Tcp>(headers.transport)?;
        let marks = if headers.is_v6 {
            marks_v6(packet.view::<Ipv6>(headers.network)?, tcp)
        } else {
            marks_v4(packet.view::<Ipv4>(headers.network)?, tcp)
        };
        Some(Self::new(marks, tcp, headers.transport, headers.transport_len))
    }

    /// The fingerprint.
    #[inline(always)]
    pub fn with(self, options: Options) -> Fingerprint {
        Fingerprint { layout: options.layout, values: self.values | options.values }
    }
}

#[inline(always)]
fn marks_of_ttl(ttl: u8) -> u64 {
    match ttl {
        ..=64 => Mark::Ttl64.bit(),
        65..=128 => Mark::Ttl128.bit(),
        129.. => Mark::Ttl255.bit(),
    }
}

#[inline(always)]
fn marks_v4(ip: &Ipv4, tcp: &Tcp) -> u64 {
    let mut marks = marks_of_ttl(ip.ttl) | marks_of_numbers(tcp);
    let id = ip.id.get();
    if ip.fragment.get() & 0x4000 != 0 {
        marks |= Mark::DontFragment.bit();
    }
    if id == 54_321 {
        marks |= Mark::Id54321.bit();
    }
    let (sequence, destination) = (u32::from_be_bytes(tcp.sequence), u32::from_be_bytes(ip.destination));
    if id == (destination ^ sequence) as u16 ^ tcp.destination.get() {
        marks |= Mark::IdMasscan.bit();
    }
    if sequence == destination {
        marks |= Mark::SequenceDestination.bit();
    }
    marks
}

#[inline(always)]
fn marks_v6(ip: &Ipv6, tcp: &Tcp) -> u64 {
    marks_of_ttl(ip.hop_limit) | marks_of_numbers(tcp)
}

#[inline(always)]
fn marks_of_numbers(tcp: &Tcp) -> u64 {
    let mut marks = 0;
    if tcp.sequence == [0; 4] {
        marks |= Mark::SequenceZero.bit();
    }
    if tcp.acknowledgment != [0; 4] {
        marks |= Mark::Acknowledges.bit();
    }
    marks
}

/// The fingerprint of a frame that [`crate::inspect`] takes for a SYN.
pub fn of_frame<P: Packet>(packet: &P) -> Fingerprint {
    let shallow = || {
        let head = Head::behind(packet, &parse::parse(packet).ok()?)?;
        Some(head.with(Options::read(packet, head.options, head.len)?))
    };
    let deep = || {
        let mut deep = Deep::EMPTY;
        parse::deep::find(packet, &mut deep, parse::deep::link, parse::deep::follow).ok()?;
        let head = Head::behind(&deep, &deep.headers()?)?;
        Some(head.with(Options::read(packet, deep.in_frame(head.options), head.len)?))
    };
    shallow().or_else(deep).unwrap_or(Fingerprint::NONE)
}

/// How many fingerprints are kept of a source.
pub const SLOTS: usize = 2;
/// The bit of [`Slot::layout`] by which a slot withstands one other fingerprint, see [`record`].
const KEPT: u64 = 1 << 63;

/// A fingerprint of a source, and how many of its SYNs had it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// As [`Fingerprint::layout`], and [`KEPT`].
    layout: u64,
    /// As [`Fingerprint::values`].
    values: u64,
    /// SYNs that had it since it took the slot, modulo 2^32.
    pub syns: u32,
    /// Those of them that met no service, modulo 2^32.
    pub missed: u32,
}

impl Slot {
    /// Nothing is in it.
    pub const EMPTY: Self = Self { layout: 0, values: 0, syns: 0, missed: 0 };

    /// The fingerprint, or none.
    pub const fn fingerprint(&self) -> Fingerprint {
        Fingerprint { layout: self.layout & !KEPT, values: self.values }
    }
}

/// Counts a SYN for the fingerprints of its source. `met`: it met a service.
///
/// SYNs that met nothing decide which fingerprints stay. Another fingerprint takes the slot of one that no such SYN had
/// since the last try. So one that most SYNs have is always there, and it costs a scanner as many SYNs to hide behind
/// two other fingerprints as it sends of its own (Misra and Gries, 1982, with counters that end at 1). SYNs that met a
/// service take a free slot at most: they are no way to push a fingerprint out.
///
/// The numbers are not exact when several CPUs count at once. They are never too high.
///
/// # Safety
/// `slots` is valid for reads and writes and aligned.
#[inline(always)]
pub unsafe fn record(slots: *mut [Slot; SLOTS], new: Fingerprint, met: bool) {
    // SAFETY: the caller's promise holds for the whole array, hence for each slot.
    unsafe {
        let first = slots.cast::<Slot>();
        let second = first.add(1);
        let (one, other) = ((&raw const (*first).layout).read(), (&raw const (*second).layout).read());
        if one & !KEPT == new.layout && (&raw const (*first).values).read() == new.values {
            hit(first, one, met);
        } else if other & !KEPT == new.layout && (&raw const (*second).values).read() == new.values {
            hit(second, other, met);
        } else if one == 0 {
            take(first, new, met);
        } else if other == 0 {
            take(second, new, met);
        } else if met {
            // No fingerprint gives way to it.
        } else if one & KEPT == 0 {
            take(first, new, met);
        } else if other & KEPT == 0 {
            take(second, new, met);
        } else {
            (&raw mut (*first).layout).write(one & !KEPT);
            (&raw mut (*second).layout).write(other & !KEPT);
        }
    }
}

#[inline(always)]
unsafe fn hit(slot: *mut Slot, layout: u64, met: bool) {
    // SAFETY: the caller's slot.
    unsafe {
        let syns = &raw mut (*slot).syns;
        syns.write(syns.read().wrapping_add(1));
        if !met {
            let missed = &raw mut (*slot).missed;
            missed.write(missed.read().wrapping_add(1));
            if layout & KEPT == 0 {
                (&raw mut (*slot).layout).write(layout | KEPT);
            }
        }
    }
}

#[inline(always)]
unsafe fn take(slot: *mut Slot, new: Fingerprint, met: bool) {
    let kept = if met { 0 } else { KEPT };
    // SAFETY: the caller's slot.
    unsafe {
        (&raw mut (*slot).layout).write(new.layout | kept);
        (&raw mut (*slot).values).write(new.values);
        (&raw mut (*slot).syns).write(1);
        (&raw mut (*slot).missed).write(u32::from(!met));
    }
}

#[cfg(test)]
mod tests;
