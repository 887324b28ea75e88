//! Standard output. It may be a pipe that nobody reads: then this thread waits, but the agent does not.

use std::{
    fs::File,
    io::{self, Write as _},
    mem::ManuallyDrop,
    os::fd::FromRawFd as _,
};

use super::{
    super::forms::Formatter,
    worker::{Deliver, Failure},
};
use crate::detect::findings::Event;

/// The sink.
pub(super) struct Stdout {
    /// Not std's handle: its buffer and lock must stay free for others. Never closed.
    output: ManuallyDrop<File>,
    formatter: Formatter,
    /// The unwritten rest of the current line: after a partial write, the line continues where it stopped.
    rest: Vec<u8>,
}

impl Stdout {
    /// The standard output of this process.
    pub(super) fn new(formatter: Formatter) -> Self {
        // SAFETY: Rust opens the three standard descriptors at start if they are closed; this one is never closed
        // here.
        let output = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDOUT_FILENO) });
        Self { output, formatter, rest: Vec::new() }
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.output.write(&self.rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Deliver for Stdout {
    async fn deliver(&mut self, event: &Event) -> Result<(), Failure> {
        if self.rest.is_empty() {
            self.rest = self.formatter.line(event)?.into_bytes();
            self.rest.push(b'\n');
        }
        self.write_rest().map_err(|error| match error.kind() {
            // It can never be written again.
            io::ErrorKind::BrokenPipe => {
                self.rest.clear();
                Failure::Refused("the reader of standard output is gone".to_owned())
            }
            _ => Failure::Away(format!("standard output: {error}")),
        })
    }
}
