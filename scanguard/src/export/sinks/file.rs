//! Appends lines to a file, each one whole or not at all, even on a full disk. The file may be rotated at any time:
//! each line goes to the file that has the name at that moment.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    super::forms::Formatter,
    worker::{Deliver, Failure},
};
use crate::detect::findings::Event;

/// Findings contain addresses, so others get no access.
const MODE: u32 = 0o640;

/// The sink.
pub(super) struct File {
    path: PathBuf,
    formatter: Formatter,
    open: Option<fs::File>,
}

impl File {
    /// A sink for the file at this path, which is created when needed.
    pub(super) fn new(path: &Path, formatter: Formatter) -> Self {
        Self { path: path.to_owned(), formatter, open: None }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) if is_at(&file, &self.path) => file,
            _ => open(&self.path)?,
        };
        write_whole(&mut file, line)?;
        self.open = Some(file);
        Ok(())
    }
}

/// Whether the file is still the one at the path: logrotate renames it.
fn is_at(file: &fs::File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    let file = match fs::File::options().append(true).create_new(true).mode(MODE).open(path) {
        Ok(file) => file,
        // It was created after all if the path was a dangling link, or the file was removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::File::options().append(true).create(true).mode(MODE).open(path)?
        }
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Otherwise a line of another writer could be cut in two by ours.
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::other("another process holds its lock")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn write_whole(file: &mut fs::File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?;
    let error = loop {
        match file.write(line) {
            Ok(written) if written == line.len() => return Ok(()),
            Ok(written) => {
                break io::Error::other(format!(
                    "room for {written} of {} bytes: the disk is full",
                    line.len()
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    if before.is_file() {
        file.set_len(before.len())?;
    }
    Err(error)
}

impl Deliver for File {
    async fn deliver(&mut self, event: &Event) -> Result<(), Failure> {
        let mut line = self.formatter.line(event)?;
        line.push('\n');
        self.append(line.as_bytes())
            .map_err(|error| Failure::Away(format!("{}: {error}", self.path.display())))
    }
}
