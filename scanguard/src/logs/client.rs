//! Finds the client when a proxy may stand in front of the server.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::{Entry, Peer, address};

/// Networks of proxies. A proxy adds the sender of a request to X-Forwarded-For.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted(pub(super) Vec<IpNet>);

impl Trusted {
    /// The client of a line; nothing if it came through a trusted proxy that does not give the client's address.
    ///
    /// The code reads X-Forwarded-For from its end, and only as far as the addresses are trusted. An address before an
    /// untrusted one may be made up.
    pub(super) fn client(&self, entry: &Entry) -> Option<IpAddr> {
        match entry.peer {
            Peer::Address(peer) if !self.has(peer) => Some(peer),
            Peer::Address(_) | Peer::Proxy => self.said_by_proxies(entry.forwarded.as_deref()?),
        }
    }

    fn said_by_proxies(&self, list: &str) -> Option<IpAddr> {
        for hop in list.rsplit(',') {
            let hop = address(hop)?;
            if !self.has(hop) {
                return Some(hop);
            }
        }
        None
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Junk, Said};

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = Trusted(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:f::/48".parse().unwrap()]);
        let rows = [
            // Peer, X-Forwarded-For, client.
            ("203.0.113.5", None, Some("203.0.113.5")),
            ("203.0.113.5", Some("198.51.100.9"), Some("203.0.113.5")),
            ("203.0.113.5", Some("10.0.0.1"), Some("203.0.113.5")),
            ("10.0.0.1", Some("198.51.100.9"), Some("198.51.100.9")),
            ("10.0.0.1", Some("192.0.2.1, 198.51.100.9, 10.0.0.2"), Some("198.51.100.9")),
            ("10.0.0.1", Some("192.0.2.1,198.51.100.9:4711"), Some("198.51.100.9")),
            ("2001:db8:f::1", Some("\"[2001:db8::9]\""), None),
            ("2001:db8:f::1", Some("192.0.2.1, [2001:db8::9]:80"), Some("2001:db8::9")),
            ("10.0.0.1", Some("192.0.2.1, unknown"), None),
            ("10.0.0.1", Some("192.0.2.1, "), None),
            ("10.0.0.1", Some("10.0.0.3, 10.0.0.2"), None),
            ("10.0.0.1", None, None),
        ];
        for (peer, forwarded, expected) in rows {
            let entry = Entry {
                peer: Peer::Address(peer.parse().unwrap()),
                forwarded: forwarded.map(str::to_owned),
                time: None,
                said: Said::Junk(Junk::Cut),
            };
            let client = trusted.client(&entry);
            assert_eq!(client, expected.map(|ip| ip.parse().unwrap()), "{peer}, {forwarded:?}");
        }
    }
}
