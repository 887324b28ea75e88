//! How far a replay is.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of all captures, unless one is no file and has no length: then what was read.
const OF_A_LENGTH: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go";
const WITHOUT_LENGTH: &str = "{spinner} {bytes}, {bytes_per_sec}";

/// A bar on standard error, if that is a terminal. Where standard output is one as well it would tear the findings:
/// then there is none.
pub(super) fn bar(captures: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
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
