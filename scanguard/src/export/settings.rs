//! `[metrics]` of the configuration.

use std::net::{Ipv6Addr, SocketAddr};

use crate::config::Section;

/// Left free by Prometheus's list of exporter ports.
pub const DEFAULT_PORT: u16 = 9823;

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where /metrics is served.
    pub listen: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        // Both families, where the host has them.
        Self { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)) }
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
        section.finish();
        Self { listen: listen.parse().unwrap_or(default.listen) }
    }
}
