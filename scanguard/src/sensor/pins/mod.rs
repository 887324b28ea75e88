//! The objects that outlive the agent: links and maps that are pinned in a BPF file system. So the program goes on
//! counting and dropping while no agent runs, and the next agent takes over without a gap.
//!
//! Below the directory `sensor.pin`:
//!
//! - `links/xdp_N`, `links/egress_N`: the links at the interface of index N. A new agent replaces the program in
//!   them, in one step.
//! - `scanguard_abi_V-HASH/`: the maps, under the version of the contract and a hash of all that is compiled into
//!   them or set when they are made (`layout`), with `meta`, which is pinned last: without it, a layout is not
//!   complete. With the same name, the agent goes on using the maps. Otherwise it makes new ones, and [`inherit`]
//!   copies bans and allow list from the old ones.
//!
//! The directory itself is the lock (`lock`): only the process that has locked it may change its contents.

mod bpffs;
pub mod hand_over;
pub mod inherit;
mod layout;
mod link_kind;
mod links;
mod lock;
mod meta;
mod namespace;
pub mod remove;
pub mod report;
mod takeover;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::user;

pub(super) use self::{link_kind::LinkKind, meta::MetaMap};
pub use self::{
    links::Pins,
    takeover::{Plan, Taken},
};

/// The directory of links.
const LINKS: &str = "links";

/// The pins cannot be used, or nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The directory is on another file system.
    #[error(
        "{} is not on a BPF file system, so that nothing can be pinned there: `mount -t bpf bpf /sys/fs/bpf`, or \
         have sensor.pin name a directory below one, or do without (sensor.persist = false)", .path.display()
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// The file system is mounted read-only.
    #[error(
        "{} is on a BPF file system that is mounted read-only: `mount -o remount,rw` it (a systemd unit wants \
         ReadWritePaths= with this directory), or do without (sensor.persist = false)",
        .path.display()
    )]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// Another agent, or `scanguard detach`, has locked it.
    #[error(
        "{} is in use by another agent{}: stop that one first, or give this one a directory of its own by sensor.pin",
        .path.display(), lock::said(*.holder)
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// The process id of the holder, if it is known.
        holder: Option<u32>,
    },
    /// The directory has something that no version of this agent pinned.
    #[error(
        "{} is nothing that ScanGuard has pinned: move it away, or give sensor.pin a directory of its own",
        .path.display()
    )]
    Foreign {
        /// Its path.
        path: PathBuf,
    },
    /// One of our names has the wrong contents.
    #[error(
        "{} is not {wanted}, as it should be; the program that is attached goes on. `scanguard detach --pin {}` removes \
         all that is pinned, and ends that program: then start again", .path.display(), .root.display()
    )]
    Corrupt {
        /// Its path.
        path: PathBuf,
        /// The expected contents.
        wanted: String,
        /// The directory of all pins.
        root: PathBuf,
    },
    /// The agent's user may not.
    #[error(
        "{doing} {}: {error}: the user {} may not; `scanguard prepare` (root) gives that directory to the agent's user",
        .path.display(), user::present()
    )]
    Denied {
        /// The operation.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file system refused.
    #[error("{doing} {}: {error}", .path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A map could not be pinned or read.
    #[error("the pinned map {}: {reason}", .path.display())]
    Map {
        /// Its pin.
        path: PathBuf,
        /// aya's message.
        reason: String,
    },
    /// The object in this binary cannot be read.
    #[error("the kernel program in this binary cannot be read: {0}")]
    Object(String),
}

impl PinsError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.raw_os_error() {
            Some(libc::EROFS) => Self::ReadOnly { path },
            Some(libc::EACCES | libc::EPERM) => Self::Denied { doing, path, error },
            _ => Self::Io { doing, path, error },
        }
    }

    fn map(path: &Path, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Map { path: path.to_owned(), reason: super::reason::shorten(error) }
    }
}

/// The names in a directory, sorted; an empty list if the directory does not exist.
fn names(directory: &Path) -> Result<Vec<String>, PinsError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PinsError::io("reading", directory)(error)),
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(PinsError::io("reading", directory))?;
    names.sort();
    Ok(names)
}
