//! Standard output and standard error. Either may be a pipe without a reader, or a file on a full disk. A running
//! agent never ends because of that.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

/// The output of a command could not be written to standard output.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether the reader has closed the pipe, as with `| head`.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes the output of a command to standard output, with a newline.
///
/// # Errors
/// It could not be written.
pub fn say(text: impl Display) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes a line to standard error, if possible.
pub fn complain(text: impl Display) {
    // There is no other place to report this.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The number of log lines that were lost.
static LOST: AtomicU64 = AtomicU64::new(0);

/// The writer of the log, to standard error. Lines that cannot be written are counted and lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

/// Lines of the log that could not be written.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

impl Write for Log {
    /// Never fails: the caller could do nothing about it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
