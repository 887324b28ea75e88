//! The seam between the parser and the memory that a frame lies in.

use crate::wire::Wire;

/// A frame, from its Ethernet header on.
///
/// The XDP program implements it over `data..data_end`, everything else over a byte slice. Offsets
/// are in bytes from the start of the frame.
pub trait Packet {
    /// The header `T` at `offset`, or nothing if it does not lie wholly in memory that can be read.
    fn view<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Length of the whole frame in bytes, also of what cannot be viewed (XDP fragments).
    fn frame_len(&self) -> usize;

    /// Whether the whole frame has at least so many bytes.
    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= self.frame_len()
    }
}

/// Headers are looked for below this offset only: the verifier wants a constant bound, and
/// two tags, the longest IPv4 header and the extension headers that are followed fit well below it.
pub const MAX_OFFSET: usize = 1024;

impl Packet for &[u8] {
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        T::ref_from_prefix(self.get(offset..)?).ok().map(|(header, _rest)| header)
    }

    fn frame_len(&self) -> usize {
        self.len()
    }
}
