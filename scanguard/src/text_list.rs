//! Lists that operators may replace by their own: plain files with one entry on a line. They are read with the
//! configuration, and an error in them is an error of the configuration.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aho_corasick::BuildError;

use crate::{settings::Section, whole_file};

/// A larger file is no such list.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How many entries a list may have.
const MAX_ENTRIES: usize = 10_000;
/// How many characters an entry has at least: every other request contains shorter ones.
pub const MIN_LENGTH: usize = 3;
/// How many characters an entry has at most.
const MAX_LENGTH: usize = 200;
/// How many wrong lines of a file the error names.
const MAX_NAMED: usize = 10;

/// Reads the setting `key`, a path: the list in that file takes the place of the built-in one.
pub fn read_one<T>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    list: &mut Arc<T>,
    parse: impl FnOnce(&str) -> Result<T, ListError>,
) {
    section.value(key, PathBuf::new(), |path| {
        if !path.as_os_str().is_empty() {
            let read = load(path).and_then(|text| parse(&text));
            *list = Arc::new(read.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        Ok(())
    });
}

fn load(path: &Path) -> Result<String, ListError> {
    String::from_utf8(whole_file::read(path, MAX_FILE_BYTES)?).map_err(|_| ListError::NoText)
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is too large to be a list.
    #[error("it is not UTF-8 text")]
    NoText,
    /// It has no entry.
    #[error("there is nothing in it; to turn off the rule that uses it, set `enabled = false`")]
    Empty,
    /// It has too many entries.
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    /// Lines are wrong: the number from 1, and the error.
    #[error("{}", WrongLines(.0))]
    Lines(Vec<(usize, String)>),
    /// It is too large for one search of all its entries.
    #[error("it is too large to be looked for: {0}")]
    Build(#[from] BuildError),
}

struct WrongLines<'e>(&'e [(usize, String)]);

impl fmt::Display for WrongLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (line, message)) in self.0.iter().take(MAX_NAMED).enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}line {line}: {message}")?;
        }
        match self.0.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The entries of a text: lines without comments and blanks, each converted by `read`.
///
/// # Errors
/// All wrong lines.
pub fn entries<'t, T>(
    text: &'t str,
    read: impl Fn(&'t str) -> Result<T, String>,
) -> Result<Vec<T>, ListError> {
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    for (place, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let length = line.chars().count();
        let entry = match () {
            () if line.chars().any(char::is_control) => Err("there are control characters in it".to_owned()),
            () if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) => {
                Err(format!("{length} characters: {MIN_LENGTH} to {MAX_LENGTH} are possible"))
            }
            () => read(line),
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(message) => wrong.push((place + 1, message)),
        }
    }
    match entries.len() {
        _ if !wrong.is_empty() => Err(ListError::Lines(wrong)),
        0 => Err(ListError::Empty),
        1..=MAX_ENTRIES => Ok(entries),
        _ => Err(ListError::TooMany),
    }
}
