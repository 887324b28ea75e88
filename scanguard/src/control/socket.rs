//! Creates the socket, and removes it at the end.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::{
    lock::{Lock, LockError},
    peer::{self, Rights},
    settings::{NEW, Settings},
};
use crate::privileges::effective_user;

/// The socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent runs.
    #[error(
        "another agent is running{}: it holds {}. `scanguard status` shows its state; a second one needs a socket \
         and a state file of its own (--socket, --state)",
        .pid.map(|pid| format!(", process {pid}")).unwrap_or_default(), .lock.display()
    )]
    Held {
        /// Its process id, if known.
        pid: Option<u32>,
        /// The locked file.
        lock: PathBuf,
    },
    /// The lock or the socket could not be made.
    #[error("{}: {error}; choose another place with {option}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
        /// How to fix it.
        option: &'static str,
    },
    /// Something else exists at this path.
    #[error("{} exists already and is no socket: it is not replaced", .0.display())]
    Occupied(PathBuf),
    /// There is no such group.
    #[error("control.group: the group {name}: {error}; `groupadd --system {name}` makes it")]
    Group {
        /// The group's name.
        name: String,
        /// The cause.
        error: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct Control {
    /// The socket.
    pub listener: UnixListener,
    /// The peers with access.
    pub rights: Rights,
    /// Must be kept for as long as the agent runs.
    pub guard: Guard,
}

/// Holds the locks while the agent runs, and removes the socket when it ends.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    _locks: [Lock; 2],
}

impl Drop for Guard {
    fn drop(&mut self) {
        // If this fails, the next agent removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The id of the configured group; `None` if no group is configured.
///
/// # Errors
/// [`ControlError::Group`].
pub fn group(settings: &Settings) -> Result<Option<u32>, ControlError> {
    match settings.group.as_str() {
        "" => Ok(None),
        name => {
            let number = peer::group(name);
            number.map(Some).map_err(|error| ControlError::Group { name: name.to_owned(), error })
        }
    }
}

/// Locks the socket and the state file against other agents, and creates the socket. Root, the agent's user and the
/// configured group get access.
///
/// # Errors
/// See [`ControlError`].
pub fn bind(settings: &Settings, state: &Path) -> Result<Control, ControlError> {
    let group = group(settings)?;
    let path = &settings.socket;
    let locks = [lock(path, 0o755, "--socket")?, lock(state, 0o750, "--state")?];
    let failed = |error| ControlError::Io { path: path.clone(), error, option: "--socket" };
    // The process that made it is dead, since this process has the lock.
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(ControlError::Occupied(path.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let new = with_suffix(path, NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    // It gets its final name after its mode is set, so that nobody can connect before.
    let finish = || {
        fs::set_permissions(&new, Permissions::from_mode(0o660))?;
        if group.is_some() {
            chown(&new, None, group)?;
        }
        fs::rename(&new, path)
    };
    if let Err(error) = finish() {
        let _ = fs::remove_file(&new);
        return Err(failed(error));
    }
    Ok(Control {
        listener,
        rights: Rights { own: effective_user(), group },
        guard: Guard { path: path.clone(), _locks: locks },
    })
}

fn lock(path: &Path, mode: u32, option: &'static str) -> Result<Lock, ControlError> {
    let lock = with_suffix(path, ".lock");
    let failed = |error| ControlError::Io { path: lock.clone(), error, option };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(failed)?;
    }
    Lock::take(&lock).map_err(|error| match error {
        LockError::Held(pid) => ControlError::Held { pid, lock: lock.clone() },
        LockError::Io(error) => failed(error),
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
