//! Files that are written whole or not at all, also when the power fails.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Puts a file in the place of the one of this name, if there is one; only this user may read it. Makes its directory.
///
/// # Errors
/// It could not be written; what was there before still is.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)?;
    // The name, too, has to reach the disk.
    File::open(directory)?.sync_all()
}

/// Reads a file of at most `most` bytes; none if there is none, and too many are an error of kind `InvalidData`.
///
/// # Errors
/// It could not be read, or is no file.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if metadata.len() > most {
        let message = format!("{} bytes are too many", metadata.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    fs::read(path).map(Some)
}
