//! The progress of a replay, and output lines beside the progress bar.

use std::{
    fs,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of all captures. If one of them is not a file, it has no length; then only the bytes read are shown.
const OF_A_LENGTH: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go";
const WITHOUT_LENGTH: &str = "{spinner} {bytes}, {bytes_per_sec}";

/// A bar on standard error, if that is a terminal.
pub(super) fn bar(captures: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let lengths: Option<Vec<u64>> = captures
        .iter()
        .map(|path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
        .collect();
    let (bar, template) = match lengths {
        Some(lengths) => (ProgressBar::new(lengths.iter().sum()), OF_A_LENGTH),
        None => (ProgressBar::new_spinner(), WITHOUT_LENGTH),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// An output that may be on the same terminal as the bar. The bar is hidden during each write.
pub(super) struct Beside<W> {
    bar: ProgressBar,
    output: W,
}

impl<W: Write> Beside<W> {
    pub(super) fn new(bar: ProgressBar, output: W) -> Self {
        Self { bar, output }
    }
}

impl<W: Write> Write for Beside<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let Self { bar, output } = self;
        // Flushed to the terminal before the bar is drawn again.
        bar.suspend(|| {
            let written = output.write(text)?;
            output.flush().map(|()| written)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
