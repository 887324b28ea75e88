//! TLS and passwords of the metrics listener. They come from a file in the format of Prometheus's exporter-toolkit
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//!
//! ```text
//! file -> WebConfig (with its certificates) -> Access -> each connection (TLS) -> each request (password) -> router
//! ```
//! Where nobody can log in, only this host itself gets more than the probes (`visitor`). A reload replaces the configuration in `Access`.

mod access;
mod file;
mod passwords;
#[cfg(test)]
mod tests;
mod tls;
mod visitor;

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::http::{HeaderName, HeaderValue};

pub use self::access::Access;
pub(crate) use self::access::guard;
use self::{passwords::Users, tls::Tls};
use crate::whole_file;

/// Certificates and lists of users are smaller than this.
const MAX_FILE: u64 = 1 << 20;

/// The content of the file, with the certificates that it names. The default is plain HTTP without users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebConfig {
    tls: Option<Tls>,
    users: Users,
    /// Headers that are added to every answer that does not set them itself.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether everybody may read /metrics. This setting is not in the file.
    public_metrics: bool,
}

impl WebConfig {
    /// Reads the file and everything that it names.
    ///
    /// # Errors
    /// See [`WebError`].
    pub fn read(path: &Path) -> Result<Self, WebError> {
        Self::of(&file::File::read(path)?, path)
    }

    /// Like [`Self::read`], for the text of a file.
    ///
    /// # Errors
    /// See [`WebError`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, WebError> {
        Self::of(&file::File::parse(text, path)?, path)
    }

    fn of(file: &file::File, path: &Path) -> Result<Self, WebError> {
        let wrong = |Wrong { key, why }| WebError::Wrong { path: path.to_owned(), key, why };
        let directory = path.parent().unwrap_or(Path::new(""));
        let config = Self {
            tls: tls::tls(file, directory).map_err(wrong)?,
            users: Users::new(file).map_err(wrong)?,
            headers: file.headers().map_err(wrong)?,
            public_metrics: false,
        };
        // If a file is configured, the operator wants protection, so an empty one is an error.
        if config == Self::default() {
            return Err(WebError::Empty(path.to_owned()));
        }
        Ok(config)
    }

    /// The scheme of the listener's URLs.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The same, but everybody who reaches the listener may read /metrics.
    #[must_use]
    pub fn with_public_metrics(self, public_metrics: bool) -> Self {
        Self { public_metrics, ..self }
    }

    /// Whether everybody who reaches the listener may read /metrics.
    pub const fn has_public_metrics(&self) -> bool {
        self.public_metrics
    }

    /// Whether requests are answered without a password or a certificate. Those of other hosts get the probes only.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && !self.tls.as_ref().is_some_and(Tls::asks_for_certificates)
    }

    /// Whether passwords are sent unencrypted.
    pub fn tells_passwords(&self) -> bool {
        self.tls.is_none() && !self.users.is_empty()
    }
}

/// The files that such a file names, as far as it can be read.
pub(crate) fn named(path: &Path) -> Vec<PathBuf> {
    file::File::read(path).map(|file| file.named(path.parent().unwrap_or(Path::new("")))).unwrap_or_default()
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// It could not be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not valid YAML, or has unknown fields.
    #[error("{}: {said}", .path.display())]
    Form {
        /// File.
        path: PathBuf,
        /// The error, with line and column.
        said: String,
    },
    /// It is empty.
    #[error("{}: it has neither tls_server_config nor basic_auth_users: without both, leave web_config empty", .0.display())]
    Empty(PathBuf),
    /// Something in it is wrong.
    #[error("{}: {key}: {why}", .path.display())]
    Wrong {
        /// File.
        path: PathBuf,
        /// Setting.
        key: String,
        /// The error, and how to fix it.
        why: String,
    },
}

/// Something in the file is wrong.
#[derive(Debug)]
struct Wrong {
    key: String,
    why: String,
}

fn wrong(key: impl Into<String>, why: impl Into<String>) -> Wrong {
    Wrong { key: key.into(), why: why.into() }
}

/// Reads all of a small file.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    whole_file::read(path, MAX_FILE)
}
