//! What a packet is, as it is handed from one part of the program to another.

use scanguard_common::outcome::{PROBE_CLASSES, ProbeClass, SegmentKind};

/// What a packet is. Global functions take and give it as a word, since the verifier lets them have numbers and pointers only.
#[derive(Clone, Copy)]
pub(crate) enum PacketKind {
    /// A probe of the class with this index, whatever the sockets say. A number, not a class: the verifier must see it
    /// compared with a bound.
    Probe(u32),
    /// A probe only if no socket wants it.
    Segment(SegmentKind),
    /// Neither: it leaves by the exit of this number.
    Exit(u32),
}

/// Where the numbers of segments begin in a word; those of probes begin at 0.
const SEGMENTS: u32 = 64;
/// Where the numbers of exits begin in a word.
const EXITS: u32 = 128;

const _: () =
    assert!(PROBE_CLASSES as u32 <= SEGMENTS && SEGMENTS as usize + SegmentKind::ALL.len() <= EXITS as usize);

impl PacketKind {
    /// A probe of this class.
    #[inline(always)]
    pub(crate) fn probe(class: ProbeClass) -> Self {
        Self::Probe(class as u32)
    }

    /// The word that stands for it.
    #[inline(always)]
    pub(crate) fn word(self) -> u32 {
        match self {
            Self::Probe(class) => class,
            Self::Segment(kind) => SEGMENTS + kind as u32,
            Self::Exit(exit) => EXITS + exit,
        }
    }

    /// What a word stands for.
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
