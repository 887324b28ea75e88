//! Takes a message apart from its beginning on. It may end anywhere.

/// The part of a message that was not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    /// The next byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next two bytes, the higher one first.
    pub(super) fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// The next bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next element of ASN.1 (X.690, 8.1): its tag and its contents, as far as they were seen.
    pub(super) fn element(&mut self) -> Option<(u8, Reader<'b>)> {
        let tag = self.byte()?;
        let length = match self.byte()? {
            short @ 0..=0x7f => usize::from(short),
            0x81 => usize::from(self.byte()?),
            0x82 => usize::from(self.word()?),
            _ => return None,
        };
        let contents = self.0.get(..length).unwrap_or(self.0);
        self.0 = self.0.get(length..).unwrap_or_default();
        Some((tag, Reader(contents)))
    }
}
