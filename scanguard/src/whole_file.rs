//! Files that are read whole and bounded, and written whole or not at all, also when the power fails.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
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

/// Opens what is a file: a pipe would be waited for, and a device may never end.
///
/// # Errors
/// It could not be opened, or is no file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let a_file = |metadata: fs::Metadata| {
        if metadata.is_file() { Ok(()) } else { Err(io::Error::other("not a file")) }
    };
    // Before, since merely opening a device may do something; and after, since by then it may be another.
    a_file(fs::metadata(path)?)?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    a_file(file.metadata()?)?;
    Ok(file)
}

/// Reads a file of at most `most` bytes; too many are an error of kind `FileTooLarge`.
///
/// # Errors
/// It could not be read, or is no file.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes"));
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // It may have grown, and some file systems do not say how long a file is.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// As [`read`]; none if there is none.
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
        // SAFETY: a path that ends with zero.
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
