//! Before anything else: the configuration, the user that the agent runs as, and what root gives that user. By hand, root
//! starts the agent, which becomes that user here. A service manager starts it as that user; then root runs
//! `scanguard prepare` first.

use std::{
    fs::{DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::stat::{Mode, umask},
    unistd::{AccessFlags, access as may},
};

use super::arguments::Arguments;
use crate::{
    config::{Config, access},
    outbound,
    privileges::{self, effective_user},
    respond::ssh_servers::SshServers,
    sensor::pins,
    user::{self, User},
};

/// Every file of the agent is made with a mode of its own: this only keeps others from writing.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

/// The name of the directories that are the agent's alone, wherever they are.
const OWN: &str = "scanguard";

/// The agent's user cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It may not write where the agent keeps its state or its socket.
    #[error(
        "{}: the user {user} may not write there, which the agent needs to ({option}): `chown {user} {}`, or choose another \
         place", .directory.display(), .directory.display()
    )]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// The user.
        user: String,
        /// The setting that names it.
        option: &'static str,
    },
    /// Somebody else runs `scanguard prepare`.
    #[error("only root can give the agent's user what it needs: run `scanguard prepare` as root")]
    NotRoot,
}

/// Reads the configuration, and becomes the agent's user if this is root. To be called before there are threads.
///
/// # Errors
/// The configuration is wrong, a capability is missing, or the user cannot do the agent's work.
pub fn start(arguments: &Arguments) -> Result<Config> {
    let config = arguments.configuration()?;
    privileges::check()?;
    umask(UMASK);
    let mut user = user::present();
    if effective_user() == 0 {
        let wanted = User::find(&config.security.user)?;
        if wanted.is_root() {
            tracing::warn!(
                "the agent stays root (security.user): if it is taken over, what belongs to root is in reach, such as root's \
                 files and sockets"
            );
        } else {
            give(&config, &wanted);
            wanted.become_it()?;
            tracing::info!(user = wanted.name, "root has become the agent's user");
            user = wanted.name;
        }
    }
    if effective_user() != 0 {
        check(&config, &user)?;
        for file in access::unreadable(access::file(arguments.config.as_deref())) {
            tracing::warn!(
                "{}: the user {user} may not read it; the start can, a reload cannot: `chown {user}` it, or restart the agent \
                 to have it read again",
                file.display()
            );
        }
    }
    Ok(config)
}

/// `scanguard prepare`: does what only root can do for an agent that a service manager starts as its own user.
///
/// # Errors
/// The configuration is wrong, there is no such user, or this process is not root.
pub fn for_service(file: Option<&Path>) -> Result<()> {
    if effective_user() != 0 {
        return Err(PrepareError::NotRoot.into());
    }
    let (config, _) = Config::find(file)?;
    let user = User::find(&config.security.user)?;
    umask(UMASK);
    if !user.is_root() {
        give(&config, &user);
    }
    let facts = facts(&config);
    SshServers::find().leave_at(&facts).with_context(|| facts.display().to_string())
}

/// Where [`for_service`] leaves what the agent cannot see of SSH servers.
pub(super) fn facts(config: &Config) -> PathBuf {
    config.control.socket.with_file_name("ssh.json")
}

/// Gives the user what the agent writes: its files, the directories called as the agent is, and the pins.
fn give(config: &Config, user: &User) {
    let learned = outbound::file::beside(&config.response.state);
    for file in access::written(config).chain([learned.as_path()]) {
        let Some(directory) = file.parent() else { continue };
        let given = give_directory(directory, user);
        let given = given.and_then(|()| give_file(file, user));
        let mut lock = file.as_os_str().to_owned();
        lock.push(".lock");
        if let Err(error) = given.and_then(|()| give_file(Path::new(&lock), user)) {
            tracing::warn!("{}: cannot be given to the user {}: {error}", file.display(), user.name);
        }
    }
    // Pins of an earlier agent that persisted have to go.
    if (config.sensor.persist || config.sensor.pin.exists())
        && let Err(error) = pins::hand_over::hand_over(&config.sensor.pin, user.uid, user.gid)
    {
        tracing::warn!("{error}");
    }
}

/// Makes a missing directory, and gives it to the user, as one that is the agent's alone.
fn give_directory(directory: &Path, user: &User) -> io::Result<()> {
    let is_new = !directory.exists();
    if is_new {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let opened =
        File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(directory)?;
    let is_roots = opened.metadata()?.uid() == 0;
    let is_own = is_new || directory.file_name().is_some_and(|name| name == OWN);
    if is_own && is_roots { give_opened(&opened, user) } else { Ok(()) }
}

/// Gives root's file of this name to the user, if there is one. The user may write to the directory: a link, or one of
/// several names of a file, may be anybody's file.
fn give_file(path: &Path, user: &User) -> io::Result<()> {
    let opened = match File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let about = opened.metadata()?;
    let is_given = about.is_file() && about.nlink() == 1 && about.uid() == 0;
    if is_given { give_opened(&opened, user) } else { Ok(()) }
}

fn give_opened(opened: &File, user: &User) -> io::Result<()> {
    chown(format!("/proc/self/fd/{}", opened.as_raw_fd()), Some(user.uid), Some(user.gid))
}

/// Whether the user may write where it has to. access(2) goes by the files' permissions alone, not by capabilities.
fn check(config: &Config, user: &str) -> Result<(), PrepareError> {
    let is_writable = |path: &Path, how| may(path, how).is_ok();
    let needed = [(&config.control.socket, "control.socket"), (&config.response.state, "response.state")];
    for (file, option) in needed {
        let Some(directory) = file.parent() else { continue };
        let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if !is_writable(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
            let (directory, user) = (existing.to_owned(), user.to_owned());
            return Err(PrepareError::Unwritable { directory, user, option });
        }
    }
    for file in access::written(config).filter(|file| needed.iter().all(|(needed, _)| needed != file)) {
        let directory = file.parent().unwrap_or(Path::new("/"));
        let fits = is_writable(directory, AccessFlags::W_OK | AccessFlags::X_OK)
            && (!file.exists() || is_writable(file, AccessFlags::W_OK));
        if !fits {
            tracing::warn!(
                "{}: the user {user} may not write it: give it a directory that is that user's (`chown {user} DIRECTORY`)",
                file.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_root_gives_is_what_the_agent_writes_and_never_what_a_link_leads_to() {
        if effective_user() != 0 {
            return;
        }
        let here = std::env::temp_dir().join(format!("sg-prepare-{}", std::process::id()));
        let (own, other) = (here.join(OWN), here.join("other"));
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&other).unwrap();
        for file in ["scanguard/state.json", "scanguard/alien", "other/roots", "other/linked"] {
            fs::write(here.join(file), "").unwrap();
        }
        symlink(other.join("roots"), own.join("control.sock.lock")).unwrap();
        fs::hard_link(other.join("linked"), own.join("state.json.lock")).unwrap();
        let mut config = Config::default();
        config.response.state = own.join("state.json");
        config.control.socket = own.join("control.sock");
        config.logs.state = here.join("made/logs.json");
        config.logs.files = vec!["/nonexistent".to_owned()];
        give(&config, &User::find("64023").unwrap());
        let owner = |name: &str| fs::symlink_metadata(here.join(name)).unwrap().uid();
        let given = ["scanguard", "scanguard/state.json", "made"].map(owner);
        let kept = ["", "other", "other/roots", "other/linked", "scanguard/alien"].map(owner);
        fs::remove_dir_all(&here).unwrap();
        assert_eq!((given, kept), ([64_023; 3], [0; 5]));
    }
}
