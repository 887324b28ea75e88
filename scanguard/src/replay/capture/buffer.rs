//! Bytes of a capture that were read and are not used yet.

use std::io::{ErrorKind, Read};

use super::CaptureError;

/// How many bytes are read at once. Memory is only taken for bytes that have arrived, so that a wrong length in a
/// header costs no memory.
const CHUNK: usize = 64 * 1024;

pub(super) struct Buffer<R> {
    reader: R,
    bytes: Vec<u8>,
    /// The bytes before this position were used.
    start: usize,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new(), start: 0 }
    }

    /// All bytes that are there.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Reads until there are `wanted` bytes, or until the end. Returns whether they are there.
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

    /// As [`Buffer::fill`], but an end after some of the bytes is an error.
    pub(super) fn need(&mut self, wanted: usize) -> Result<(), CaptureError> {
        if self.fill(wanted)? { Ok(()) } else { Err(CaptureError::Truncated) }
    }

    /// Removes the first bytes and returns them.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let from = self.start;
        self.start += length;
        &self.bytes[from..self.start]
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
