//! Ensures that only one agent runs. The kernel releases the lock however the agent ends.

use std::{
    fs::{File, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const MODE: u32 = 0o600;

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
    /// Takes the lock and writes this process's id into the file. Only the agent's user can open the file: everybody
    /// who can open it for reading can lock it, and so keep the agent from starting.
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(MODE).open(path);
        let mut file = open.map_err(LockError::Io)?;
        // An earlier version made it with another mode.
        file.set_permissions(Permissions::from_mode(MODE)).map_err(LockError::Io)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_other_user_can_open_the_lock_and_so_hold_it() {
        let directory = std::env::temp_dir().join(format!("sg-lock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("control.sock.lock");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let taken = Lock::take(&path);
        assert!(taken.is_ok() && mode() == 0o600, "{taken:?} {:o}", mode());
        drop(taken);
        // An earlier version made it readable for everybody.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let taken = Lock::take(&path);
        assert!(taken.is_ok() && mode() == 0o600, "{taken:?} {:o}", mode());
        fs::remove_dir_all(&directory).unwrap();
    }
}
