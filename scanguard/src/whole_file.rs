//! Files that are read whole and with a size limit, and written atomically, even if the power fails.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// Replaces or creates the file of this name. Only this user may read it. Creates its directory if needed.
///
/// # Errors
/// It could not be written. The old file is unchanged.
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
    // The directory entry must reach the disk, too.
    File::open(directory)?.sync_all()
}

/// Moves the existing file aside, to `NAME.WHY-TIME`.
///
/// # Errors
/// The file could not be moved.
pub(crate) fn move_aside(path: &Path, why: &str, now: Timestamp) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{why}-{}", now.strftime("%Y%m%dT%H%M%SZ")));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Opens a regular file. Reading a pipe would block, and a device may never end.
///
/// # Errors
/// It could not be opened, or is not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let a_file = |metadata: fs::Metadata| {
        if metadata.is_file() { Ok(()) } else { Err(io::Error::other("not a file")) }
    };
    // Checked before, since merely opening a device may have effects; and after, since it may have been replaced by
    // then.
    a_file(fs::metadata(path)?)?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    a_file(file.metadata()?)?;
    Ok(file)
}

/// Reads a file of at most `most` bytes. A larger file is an error of kind `FileTooLarge`.
///
/// # Errors
/// It could not be read, or is not a regular file.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes"));
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // It may have grown, and some file systems do not report a file's length.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// Like [`read`], but `None` if there is no such file.
///
/// # Errors
/// As above.
pub(crate) fn read_if_there(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    match read(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("scanguard-whole-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let pipe = directory.join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let file = directory.join("file");
        fs::write(&file, "four").unwrap();
        let said =
            [&pipe, Path::new("/dev/zero"), &directory].map(|path| read(path, 4).unwrap_err().to_string());
        let (whole, large) = (read(&file, 4), read(&file, 3));
        let missing = read_if_there(&directory.join("none"), 4);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(said, ["not a file"; 3]);
        assert_eq!(whole.unwrap(), b"four");
        assert_eq!(large.map_err(|error| error.kind()), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(missing.unwrap(), None);
    }
}
