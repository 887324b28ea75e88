//! Ensures that only one agent runs. The kernel releases the lock however the agent ends.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The lock. The file is never removed: otherwise two agents could hold two files of the same name.
#[derive(Debug)]
pub(super) struct Lock(
    #[expect(dead_code, reason = "held, not used: the lock is that of the open file")] File,
);

/// Why the lock could not be taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it. Its id, if the file has one.
    Held(Option<u32>),
    /// The file could not be used.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock and writes this process's id into the file.
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
        let mut file = open.map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The lock decides. Its owner may not have written its id yet.
                let _ = file.take(32).read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(LockError::Io)?;
        Ok(Self(file))
    }
}
