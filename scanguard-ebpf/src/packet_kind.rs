//! The kind of a packet, as one part of the program passes it to another.

use scanguard_common::outcome::{PROBE_CLASSES, ProbeClass, SegmentKind};

/// The kind of a packet. Global functions take and give it as a number, since the verifier lets them have only numbers
/// and pointers.
#[derive(Clone, Copy)]
pub(crate) enum PacketKind {
    /// A probe of the class with this index, whatever the sockets say. It is a number, not a class: the verifier must
    /// see its comparison with a bound.
    Probe(u32),
    /// A probe only if no socket wants it.
    Segment(SegmentKind),
    /// Neither: it leaves by the exit with this number.
    Exit(u32),
}

/// The first number for segments. Those for probes begin at 0.
const SEGMENTS: u32 = 64;
/// The first number for exits.
const EXITS: u32 = 128;

const _: () =
    assert!(PROBE_CLASSES as u32 <= SEGMENTS && SEGMENTS as usize + SegmentKind::ALL.len() <= EXITS as usize);

impl PacketKind {
    /// A probe of this class.
    #[inline(always)]
    pub(crate) fn probe(class: ProbeClass) -> Self {
        Self::Probe(class as u32)
    }

    /// The number for this kind.
    #[inline(always)]
    pub(crate) fn word(self) -> u32 {
        match self {
            Self::Probe(class) => class,
            Self::Segment(kind) => SEGMENTS + kind as u32,
            Self::Exit(exit) => EXITS + exit,
        }
    }

    /// The kind for this number.
    #[inline(always)]
    pub(crate) fn from_word(word: u32) -> Self {
        if word >= EXITS {
            return Self::Exit(word - EXITS);
        }
        match SegmentKind::from_index(word.wrapping_sub(SEGMENTS) as usize) {
            Some(kind) => Self::Segment(kind),
            None => Self::Probe(word),
        }
    }
}
