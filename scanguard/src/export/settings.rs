//! `[metrics]` of the configuration.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{top_sources::MAX_TOP_SOURCES, web::WebConfig};
use crate::settings::Section;

/// A port that Prometheus's list of exporter ports leaves free.
pub const DEFAULT_PORT: u16 = 9823;

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The address of /metrics.
    pub listen: SocketAddr,
    /// The most connections at once.
    pub max_connections: u32,
    /// How many of the fastest sources have metrics with their address.
    pub top_sources: u32,
    /// The file with TLS and passwords; if empty, plain HTTP, and nobody can log in.
    pub web_config: PathBuf,
    /// The content of that file, so that the loaded configuration is complete, with `public_metrics`.
    pub web: WebConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            max_connections: 64,
            top_sources: 0,
            web_config: PathBuf::new(),
            web: WebConfig::default(),
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let listen = section.value("listen", default.listen.to_string(), |text: &String| {
            text.parse::<SocketAddr>()
                .map(drop)
                .map_err(|_| format!("\"{text}\" is no address with port, such as \"127.0.0.1:9823\""))
        });
        let max_connections = section.number("max_connections", default.max_connections, 4..=4096);
        let top_sources = section.number("top_sources", default.top_sources, 0..=MAX_TOP_SOURCES);
        let mut web = default.web;
        let web_config = section.value("web_config", default.web_config, |path| {
            if !path.as_os_str().is_empty() {
                web = WebConfig::read(path).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        let public_metrics = section.value("public_metrics", web.has_public_metrics(), |_| Ok(()));
        section.finish();
        let web = web.with_public_metrics(public_metrics);
        let listen = listen.parse().unwrap_or(default.listen);
        Self { listen, max_connections, top_sources, web_config, web }
    }
}

/// How important a remark is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// The operator may want to know.
    Note,
    /// The operator probably wants something else.
    Warning,
}

impl Settings {
    /// What the operator should know about the listener at `address`, with what to change.
    pub fn remarks(&self, address: SocketAddr) -> Vec<(Level, String)> {
        let (web, scheme) = (&self.web, self.web.scheme());
        let mut remarks = Vec::new();
        if address.ip().to_canonical().is_loopback() {
            if self.listen == Self::default().listen {
                let said = format!(
                    "the listener is at {address} only, for this host; until 0.1 the default was all addresses. For \
                     Prometheus on another host, set metrics.listen and metrics.web_config (docs/listener.md)"
                );
                remarks.push((Level::Note, said));
            }
            return remarks;
        }
        if web.is_open() {
            let metrics = if web.has_public_metrics() { ", /metrics" } else { "" };
            let said = format!(
                "nobody can log in at {scheme}://{address}/: other hosts get /healthz{metrics} and /readyz only. Users \
                 with passwords are in metrics.web_config; metrics.public_metrics opens /metrics to everybody \
                 (docs/listener.md)"
            );
            let level = if web.has_public_metrics() { Level::Note } else { Level::Warning };
            remarks.push((level, said));
        }
        if web.tells_passwords() {
            let said = format!(
                "passwords for {scheme}://{address}/ can be read on the way: have TLS in metrics.web_config, too"
            );
            remarks.push((Level::Warning, said));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_hears_what_other_hosts_get() {
        let said = |text: &str, address: &str| {
            let config = crate::config::Config::parse(text).unwrap();
            config.metrics.remarks(address.parse().unwrap())
        };
        let old = said("", "127.0.0.1:9823");
        assert!(matches!(&old[..], [(Level::Note, said)] if said.contains("all addresses")), "{old:?}");
        assert_eq!(said("[metrics]\nlisten = \"[::1]:9823\"\n", "[::1]:9823"), []);
        let shut = said("[metrics]\nlisten = \"[::]:9823\"\n", "[::]:9823");
        assert!(
            matches!(&shut[..], [(Level::Warning, said)] if said.contains("/healthz and /readyz")),
            "{shut:?}"
        );
        let bare = said("[metrics]\nlisten = \"[::]:9823\"\npublic_metrics = true\n", "[::]:9823");
        assert!(
            matches!(&bare[..], [(Level::Note, said)] if said.contains("/healthz, /metrics")),
            "{bare:?}"
        );
    }
}
