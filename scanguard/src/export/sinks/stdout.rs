//! Standard output. It may be a pipe whose reader sleeps: the thread waits, the agent does not.

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
    /// Not std's, whose buffer and lock nobody else must be kept from. Never closed.
    output: ManuallyDrop<File>,
    formatter: Formatter,
    /// What is left of the line under way: a line that could be written in part goes on where it ended.
    rest: Vec<u8>,
}

impl Stdout {
    /// The standard output of this process.
    pub(super) fn new(formatter: Formatter) -> Self {
        // SAFETY: Rust opens the three standard descriptors at the start if they are closed; this one is never closed here.
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
            // It never comes back.
            io::ErrorKind::BrokenPipe => {
                self.rest.clear();
                Failure::Refused("nobody reads standard output any more".to_owned())
            }
            _ => Failure::Away(format!("standard output: {error}")),
        })
    }
}
