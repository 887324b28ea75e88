//! Findings as lines on an output.

use std::io::{self, IsTerminal as _, Write};

use super::forms::{Context, Format, Formatter};
use crate::detect::findings::Event;

/// Writes lines to an output.
pub struct FindingsWriter<W> {
    output: W,
    formatter: Formatter,
}

/// The form of lines on standard output. The kind of output decides between text and JSON, and about colour.
pub(super) fn stdout_formatter(format: Format, context: Context) -> Formatter {
    let terminal = io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Formatter::new(format, terminal, colour, context)
}

impl<W: Write> FindingsWriter<W> {
    /// A writer to `output` that uses the form of standard output.
    pub fn stdout(output: W, format: Format, ipv6_prefix: u8) -> Self {
        Self::new(output, stdout_formatter(format, Context::here(ipv6_prefix)))
    }

    /// To any output.
    pub fn new(output: W, formatter: Formatter) -> Self {
        Self { output, formatter }
    }

    /// Sets whether the events are of a capture that has only one direction. At first they are not.
    pub fn set_one_direction(&mut self, one: bool) {
        self.formatter.set_one_direction(one);
    }

    /// Writes one event as one whole line.
    ///
    /// # Errors
    /// The output failed.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = self.formatter.line(event)?;
        line.push('\n');
        self.output.write_all(line.as_bytes())?;
        self.output.flush()
    }
}
