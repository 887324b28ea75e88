//! Gives the directory of pins to the agent's user: only root may make it in /sys/fs/bpf, and earlier versions of the
//! agent pinned as root.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown, lchown},
    },
    path::{Path, PathBuf},
};

use super::{PinsError, bpffs};

/// Makes the directory if it is missing, and gives it and the pins in it to this user. Does nothing if it is on no BPF
/// file system, which whoever needs it says.
///
/// The user may have been taken over while an agent ran. So nothing is followed out of the directory: each directory is
/// opened without following links, and of its entries only directories and files with one name are given.
///
/// # Errors
/// The directory could not be made, or something in it could not be given.
pub fn hand_over(root: &Path, uid: u32, gid: u32) -> Result<(), PinsError> {
    if bpffs::check(root).is_err() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(PinsError::io("making", root))?;
    // As deep as pins are: links and maps of a layout.
    give_directory(root, uid, gid, 1).map_err(PinsError::io("giving the agent's user", root))
}

fn give_directory(directory: &Path, uid: u32, gid: u32, deeper: u32) -> io::Result<()> {
    let opened =
        File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(directory)?;
    // The opened directory, whatever has its name by now.
    let place = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    for entry in fs::read_dir(&place)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() && deeper > 0 {
            give_directory(&entry.path(), uid, gid, deeper - 1)?;
        } else if about.is_file() && about.nlink() == 1 && about.uid() != uid {
            lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    if opened.metadata()?.uid() == uid { Ok(()) } else { chown(&place, Some(uid), Some(gid)) }
}
