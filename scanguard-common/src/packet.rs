//! The seam between the parser and the memory of a frame.

use crate::wire::Wire;

/// A frame, beginning with its Ethernet header.
///
/// The XDP program implements it over `data..data_end`, all other code over a byte slice. Offsets are in bytes from
/// the start of the frame.
pub trait Packet {
    /// The header `T` at `offset`, or nothing if a part of it is not in memory that can be read.
    fn view<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Copies bytes from `offset` on, including bytes that cannot be viewed. Returns whether the frame has all of
    /// them. It costs more than [`Self::view`]: in the kernel program it is a call.
    fn load(&self, offset: usize, into: &mut [u8]) -> bool;

    /// Copies the header `T`, as [`Self::load`].
    #[inline(always)]
    fn copy<T: Wire>(&self, offset: usize) -> Option<T> {
        let mut header = T::new_zeroed();
        self.load(offset, header.as_mut_bytes()).then_some(header)
    }

    /// Length of the whole frame in bytes, including bytes that cannot be viewed (XDP fragments).
    fn frame_len(&self) -> usize;

    /// Whether the whole frame has at least this many bytes.
    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= self.frame_len()
    }
}

/// Headers are viewed only below this offset. The verifier needs a constant bound, and two tags, the longest IPv4
/// header and a few extension headers fit well below it. Deeper headers are copied, see [`crate::parse::deep`].
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
