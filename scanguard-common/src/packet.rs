//! The seam between the parser and the memory that a frame lies in.

use crate::wire::Wire;

/// A frame, from its Ethernet header on.
///
/// The XDP program implements it over `data..data_end`, everything else over a byte slice. Offsets
/// are in bytes from the start of the frame.
pub trait Packet {
    /// The header `T` at `offset`, or nothing if it does not lie wholly in memory that can be read.
    fn view<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Copies bytes from `offset` on, also where they cannot be viewed; whether the frame holds all of them.
    /// Dearer than [`Self::view`]: for the kernel program it is a call.
    fn load(&self, offset: usize, into: &mut [u8]) -> bool;

    /// As [`Self::load`]: the header `T`.
    #[inline(always)]
    fn copy<T: Wire>(&self, offset: usize) -> Option<T> {
        let mut header = T::new_zeroed();
        self.load(offset, header.as_mut_bytes()).then_some(header)
    }

    /// Length of the whole frame in bytes, also of what cannot be viewed (XDP fragments).
    fn frame_len(&self) -> usize;

    /// Whether the whole frame has at least so many bytes.
    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= self.frame_len()
    }
}

/// Headers are viewed below this offset only: the verifier wants a constant bound, and two tags, the longest IPv4 header and
/// a few extension headers fit well below it. What lies deeper is copied, see [`crate::parse::deep`].
pub const MAX_OFFSET: usize = 1024;

impl Packet for &[u8] {
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        T::ref_from_prefix(self.get(offset..)?).ok().map(|(header, _rest)| header)
    }

    fn load(&self, offset: usize, into: &mut [u8]) -> bool {
        let bytes = self.get(offset..).and_then(|rest| rest.get(..into.len()));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn frame_len(&self) -> usize {
        self.len()
    }
}
