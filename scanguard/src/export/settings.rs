//! `[metrics]` of the configuration.

use std::{
    net::{Ipv6Addr, SocketAddr},
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
    /// The file with TLS and passwords; if empty, plain HTTP for everybody.
    pub web_config: PathBuf,
    /// The content of that file, so that the loaded configuration is complete.
    pub web: WebConfig,
}

impl Default for Settings {
    fn default() -> Self {
        // IPv4 and IPv6, if the host has both.
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)),
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
        section.finish();
        let listen = listen.parse().unwrap_or(default.listen);
        Self { listen, max_connections, top_sources, web_config, web }
    }
}
