//! Secrets from files: keys, passwords, tokens.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{privileges::effective_user, user, whole_file};

/// The largest size of a secret's file. Keys and passwords are shorter.
const MAX_SECRET: u64 = 4_096;
/// The same for a secret of several lines. Credentials of NATS with their signed claims take about 1 KiB.
const MAX_TEXT: u64 = 16_384;

/// A password or key. It never appears in a log.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The secret text.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// A secret cannot be read from its file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("no file is named")]
    Unnamed,
    #[error("{}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "{} has mode {mode:03o}, so that others can read or change it: `chmod 600` it", .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{} belongs to uid {owner}, and that user can change it: `chown` it to root or to the agent's user",
        .path.display()
    )]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} is not one line of visible characters", .0.display())]
    NoSecret(PathBuf),
    #[error("{} has more than {MAX_TEXT} bytes, or is not text", .0.display())]
    NoText(PathBuf),
}

/// Reads a secret: one line, in a file that only root and this process's user can read or change.
pub(crate) fn read(path: &Path) -> Result<Secret, SecretError> {
    let failed = |error| SecretError::Read { path: path.to_owned(), error };
    let mut text = String::new();
    open(path)?.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(failed)?;
    let line = text.trim_end_matches(['\n', '\r']);
    let is_secret = !line.is_empty()
        && line.len() as u64 <= MAX_SECRET
        && line.bytes().all(|byte| byte.is_ascii_graphic());
    if is_secret { Ok(Secret(line.to_owned())) } else { Err(SecretError::NoSecret(path.to_owned())) }
}

/// Reads a secret of several lines, in such a file.
pub(crate) fn read_text(path: &Path) -> Result<Secret, SecretError> {
    let mut bytes = Vec::new();
    let failed = |error| SecretError::Read { path: path.to_owned(), error };
    open(path)?.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= MAX_TEXT);
    text.map(Secret).ok_or_else(|| SecretError::NoText(path.to_owned()))
}

/// Opens a file that only root and this process's user can read or change.
fn open(path: &Path) -> Result<File, SecretError> {
    if path.as_os_str().is_empty() {
        return Err(SecretError::Unnamed);
    }
    let failed = |error| SecretError::Read { path: path.to_owned(), error };
    let file = whole_file::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    // Root reads files for the agent's user, too.
    let is_trusted = |owner| owner == 0 || owner == effective_user() || user::is_agents(owner);
    if !is_trusted(metadata.uid()) {
        return Err(SecretError::Foreign { path: path.to_owned(), owner: metadata.uid() });
    }
    Ok(file)
}
