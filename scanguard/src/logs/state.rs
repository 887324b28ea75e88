//! How far each file was read, so that the next agent continues there.

use std::{
    fs::Metadata,
    hash::Hasher as _,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use fnv::FnvHasher;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::whole_file;

/// The version of the file's format.
const VERSION: u32 = 1;
/// All files that can be followed, with long paths, take 2 MiB.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// How many bytes at the beginning of a log distinguish it from its successor: they have the time of more than one
/// line.
pub(super) const HEAD_BYTES: u16 = 256;

/// The contents of the state file.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// When it was written.
    pub(super) saved: Timestamp,
    /// The files.
    pub(super) files: Vec<Position>,
}

/// A file, and how far it was read.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Its last known path.
    pub(super) path: PathBuf,
    #[serde(flatten)]
    pub(super) id: Id,
    /// The next line begins here.
    pub(super) offset: u64,
    pub(super) head: Head,
}

/// The identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Whether this is the same file. The device's number may differ since the host was started.
    pub(super) fn may_be(self, other: Self) -> bool {
        self.inode == other.inode
    }
}

/// The first bytes of a file. File systems reuse inodes, and copytruncate keeps them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// How many bytes: at most [`HEAD_BYTES`].
    pub(super) bytes: u16,
    /// Their hash (FNV-1a). The bytes themselves have personal data and are not kept.
    pub(super) hash: u64,
}

impl Head {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES.into())];
        let mut hasher = FnvHasher::default();
        hasher.write(bytes);
        Self { bytes: u16::try_from(bytes.len()).unwrap_or(HEAD_BYTES), hash: hasher.finish() }
    }

    /// Whether a file that begins with these bytes is still the same.
    pub(super) fn is_of(self, bytes: &[u8]) -> bool {
        bytes.get(..self.bytes.into()).is_some_and(|bytes| Self::of(bytes) == self)
    }
}

impl State {
    pub(super) fn new(saved: Timestamp, files: Vec<Position>) -> Self {
        Self { version: VERSION, saved, files }
    }

    /// Reads the file; nothing if it does not exist.
    ///
    /// # Errors
    /// It could not be read, or it does not have this version's format.
    pub(super) fn load(path: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = whole_file::read_if_there(path, MAX_FILE_BYTES)? else {
            return Ok(None);
        };
        Self::parse(&bytes).map(Some)
    }

    /// Parses the contents of such a file.
    ///
    /// # Errors
    /// They do not have this version's format.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let state: Self = serde_json::from_slice(bytes)?;
        if state.version != VERSION {
            let message = format!("its version is {}, not {VERSION}", state.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(state)
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    /// It could not be written. The file that was there before is unchanged.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        whole_file::replace(path, &serde_json::to_vec(self).map_err(io::Error::from)?)
    }
}
