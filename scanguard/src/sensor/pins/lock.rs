//! The lock on the directory of pins (flock): only its holder may change the pins. The kernel unlocks it when the
//! process ends, for whatever reason.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::PinsError;

/// The lock. It is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    directory: File,
}

impl Lock {
    /// The locked directory by its descriptor. This path works even where the directories above may not be entered: the
    /// agent's user may not enter /sys/fs/bpf on every host.
    pub(super) fn place(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))
    }
}

/// Another process may remove the directory and make a new one while this one locks it.
const ATTEMPTS: u32 = 10;

/// Locks an existing directory.
pub(super) fn lock(path: &Path) -> Result<Lock, PinsError> {
    for _ in 0..ATTEMPTS {
        let directory = File::open(path).map_err(PinsError::io("opening", path))?;
        // SAFETY: an open descriptor.
        if unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            return Err(match error.kind() {
                io::ErrorKind::WouldBlock => PinsError::Held { path: path.to_owned(), holder: holder(path) },
                _ => PinsError::io("locking", path)(error),
            });
        }
        let inode = |about: fs::Metadata| (about.dev(), about.ino());
        let locked = directory.metadata().map(inode).ok();
        if locked.is_some() && locked == fs::metadata(path).map(inode).ok() {
            return Ok(Lock { directory });
        }
    }
    Err(PinsError::Held { path: path.to_owned(), holder: None })
}

/// The process that has locked a file or directory, from /proc/locks.
pub(super) fn holder(path: &Path) -> Option<u32> {
    let about = fs::metadata(path).ok()?;
    let (major, minor) = (libc::major(about.dev()), libc::minor(about.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", about.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().filter(|line| line.contains(" FLOCK ")).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == place)?;
        fields.get(at.checked_sub(1)?)?.parse().ok().filter(|pid| *pid != 0)
    })
}

/// The holder, as a part of a sentence.
pub(super) fn said(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_the_lock_and_the_other_learns_who() {
        let directory = std::env::temp_dir().join(format!("scanguard-lock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let first = lock(&directory).unwrap();
        let second = lock(&directory).unwrap_err();
        let own = std::process::id();
        assert!(matches!(second, PinsError::Held { holder: Some(pid), .. } if pid == own), "{second}");
        drop(first);
        lock(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
    }
}
