//! Standard output and standard error, either of which may be a pipe that nobody reads or a file on a full disk. That never
//! ends a running agent.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

/// What a command has to say could not be written to standard output.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether nobody wants to read more, as with `| head`.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes to standard output what a command has to say, with its line's end.
///
/// # Errors
/// It cannot be written.
pub fn say(text: impl Display) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes a line to standard error, if that can be written to.
pub fn complain(text: impl Display) {
    // There is nowhere else to say it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// What was not logged.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Where the log goes: to standard error. What cannot be written is counted, and lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

/// Lines of the log that could not be written.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

impl Write for Log {
    /// Never fails: who logs could do nothing about it.
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
