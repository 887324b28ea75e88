//! What was read of a capture and is not used yet.

use std::io::{ErrorKind, Read};

use super::CaptureError;

/// Read at once. What a header promises is believed as far as it has come, so that a wrong length costs no
/// memory.
const CHUNK: usize = 64 * 1024;

pub(super) struct Buffer<R> {
    reader: R,
    bytes: Vec<u8>,
    /// What lies before this was used.
    start: usize,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new(), start: 0 }
    }

    /// All that is there.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Reads until there are `wanted` bytes, or until the end: gives whether they are there.
    pub(super) fn fill(&mut self, wanted: usize) -> Result<bool, CaptureError> {
        while self.data().len() < wanted {
            self.bytes.drain(..self.start);
            self.start = 0;
            let old = self.bytes.len();
            self.bytes.resize(old + CHUNK, 0);
            let read = self.reader.read(&mut self.bytes[old..]);
            self.bytes.truncate(old + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Read(error)),
            }
        }
        Ok(true)
    }

    /// As [`Buffer::fill`] where more than nothing is there: the end within it is an error.
    pub(super) fn need(&mut self, wanted: usize) -> Result<(), CaptureError> {
        if self.fill(wanted)? { Ok(()) } else { Err(CaptureError::Truncated) }
    }

    /// Takes the first bytes away and gives them.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let from = self.start;
        self.start += length;
        &self.bytes[from..self.start]
    }

    /// What it takes of memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
