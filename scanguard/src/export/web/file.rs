//! The file's format.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, de::IgnoredAny};

use super::{WebError, Wrong, read_file, wrong};
use crate::secret::Secret;

/// Headers that may be set, and their allowed values; an empty list allows any value. The toolkit has the same list.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "tls_server_config")]
    pub(super) tls: Option<TlsServer>,
    #[serde(rename = "http_server_config")]
    http: Option<HttpServer>,
    #[serde(rename = "basic_auth_users")]
    pub(super) users: Option<BTreeMap<String, Secret>>,
    rate_limit: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsServer {
    pub(super) cert: Secret,
    pub(super) cert_file: PathBuf,
    pub(super) key: Secret,
    pub(super) key_file: PathBuf,
    pub(super) client_auth_type: String,
    pub(super) client_ca: Secret,
    pub(super) client_ca_file: PathBuf,
    pub(super) client_allowed_sans: Option<IgnoredAny>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Option<Vec<String>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    pub(super) curve_preferences: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpServer {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, WebError> {
        let text = read_file(path).map_err(|error| WebError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, WebError> {
        // The text around the error could be a secret.
        serde_saphyr::from_slice(text).map_err(|error| WebError::Form {
            path: path.to_owned(),
            said: error.without_snippet().to_string(),
        })
    }

    /// The files that it names.
    pub(super) fn named(&self, directory: &Path) -> Vec<PathBuf> {
        let files = self.tls.iter().flat_map(|tls| [&tls.cert_file, &tls.key_file, &tls.client_ca_file]);
        files.filter(|file| !file.as_os_str().is_empty()).map(|file| directory.join(file)).collect()
    }

    /// The headers. They are checked after everything else.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Wrong> {
        if self.rate_limit.is_some() {
            let why = "there is none here: metrics.max_connections bounds connections, docs/listener.md has the other limits";
            return Err(wrong("rate_limit", why));
        }
        let Some(http) = &self.http else {
            return Ok(Vec::new());
        };
        if http.http2 == Some(true) {
            let why = "HTTP/2 is not spoken here, Prometheus takes HTTP/1.1: leave it out, or say false";
            return Err(wrong("http_server_config.http2", why));
        }
        http.headers.iter().flatten().map(|(name, value)| header(name, value)).collect()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    let key = format!("http_server_config.headers.{name}");
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let known = HEADERS.map(|(name, _)| name).join(", ");
        return Err(wrong(key, format!("this header cannot be set; there are: {known}")));
    };
    if !allowed.is_empty() && !allowed.contains(&value) {
        return Err(wrong(key, format!("\"{value}\" is not one of: {}", allowed.join(", "))));
    }
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        (Err(_), _) | (_, Err(_)) => Err(wrong(key, "a header is one line of visible characters")),
    }
}
