//! `[crowdsec]` of the configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::{Uri, http::uri::Scheme};
use serde::Deserialize;

use crate::{
    respond::settings::MAX_BANS,
    secret::{self, Secret},
    settings::{Interval, Section},
};

/// How many characters a machine's name may have.
const MAX_MACHINE: usize = 64;

/// The address of the Local API.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Endpoint {
    /// Whether it uses TLS: https.
    pub is_tls: bool,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Default for Endpoint {
    fn default() -> Self {
        // The default address of a new installation of CrowdSec.
        Self { is_tls: false, host: "127.0.0.1".to_owned(), port: 8080 }
    }
}

impl Endpoint {
    /// Name or address, with the port.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether nobody on the way can read the traffic.
    pub fn is_private(&self) -> bool {
        self.is_tls || self.is_loopback()
    }

    /// Whether the traffic stays on this host, as far as the host name tells.
    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no URL such as \"http://127.0.0.1:8080\"");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme().ok_or_else(wrong)?;
        let is_tls = *scheme == Scheme::HTTPS;
        let authority = uri.authority().ok_or_else(wrong)?;
        let port = authority.port_u16();
        // A number that is no port must not count as a part of the name.
        let is_port = port.is_some() || authority.as_str() == authority.host();
        let is_bare = is_port && uri.path().trim_matches('/').is_empty() && uri.query().is_none();
        if !(is_tls || *scheme == Scheme::HTTP)
            || !is_bare
            || authority.as_str().contains('@')
            || authority.host().is_empty()
        {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { is_tls, host, port: port.unwrap_or(if is_tls { 443 } else { 80 }) })
    }
}

/// `[crowdsec]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The address of the Local API.
    pub url: Endpoint,
    /// Whether findings are pushed.
    pub push: bool,
    /// The machine's name for pushing.
    pub machine: String,
    /// The file with its password.
    pub password_file: PathBuf,
    /// Its contents; nothing if nothing is pushed.
    pub password: Option<Secret>,
    /// Whether decisions are pulled.
    pub pull: bool,
    /// The file with the bouncer's key.
    pub key_file: PathBuf,
    /// Its contents; nothing if nothing is pulled.
    pub key: Option<Secret>,
    /// The time between two requests for decisions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many decisions are kept. Further ones are left out.
    pub max_decisions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Endpoint::default(),
            push: false,
            machine: String::new(),
            password_file: PathBuf::new(),
            password: None,
            pull: false,
            key_file: PathBuf::new(),
            key: None,
            // Like CrowdSec's own bouncers.
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            max_decisions: 5_000,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let mut settings = Self {
            url: section.value("url", default.url, |_| Ok(())),
            push: section.value("push", default.push, |_| Ok(())),
            machine: section.value("machine", default.machine, |name: &String| machine(name)),
            password_file: section.value("password_file", default.password_file, |_| Ok(())),
            password: None,
            pull: section.value("pull", default.pull, |_| Ok(())),
            key_file: section.value("bouncer_key_file", default.key_file, |_| Ok(())),
            key: None,
            interval: section.interval(
                "interval",
                default.interval,
                Interval::between(Duration::from_secs(1), Duration::from_secs(3_600)),
            ),
            timeout: section.interval(
                "timeout",
                default.timeout,
                Interval::between(Duration::from_millis(100), Duration::from_secs(60)),
            ),
            max_decisions: section.number("max_decisions", default.max_decisions, 1..=MAX_BANS),
        };
        let secret = |key: &str, wanted_by: &str, path: &Path| match secret::read(path) {
            Ok(secret) => Some(secret),
            Err(error) => {
                section.contradiction(&[key, wanted_by], format!("{key}: {error}"));
                None
            }
        };
        if settings.push {
            settings.password = secret("password_file", "push", &settings.password_file);
        }
        if settings.pull {
            settings.key = secret("bouncer_key_file", "pull", &settings.key_file);
        }
        if settings.push && settings.machine.is_empty() {
            section.contradiction(
                &["push"],
                "findings are pushed under a name: set machine (`cscli machines add NAME`)",
            );
        }
        section.finish();
        settings
    }
}

fn machine(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.len() <= MAX_MACHINE && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!("a name has at most {MAX_MACHINE} letters, digits, or one of _.-"))
}

#[cfg(test)]
mod tests;
