//! Whose connections to the SSH server this host has: those people are not locked out.
//!
//! A connection that is there when the agent starts counts at once; a later one only when it has lived longer than the
//! server lets anybody stay who has not logged in, after which only those who have are still connected.
//! Pure: what is connected is passed in.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How long a connection to OpenSSH has to live to count as one of somebody who has logged in: its `LoginGraceTime` is 120 s
/// unless configured.
pub const LOGGED_IN: Duration = Duration::from_secs(150);
/// The same of Dropbear: `AUTH_TIMEOUT`, `default_options.h`, is 300 s.
pub const LOGGED_IN_DROPBEAR: Duration = Duration::from_secs(330);
/// How long its address is spared after its last connection has ended: long enough to come back.
pub const KEPT: Duration = Duration::from_secs(60 * 60);
/// Connections that are looked at, and addresses that are remembered.
pub const MAX_PEERS: usize = 1_024;

/// A connection to the server: the peer, and the server's end.
pub type Connection = (SocketAddr, SocketAddr);
/// Connections, with how long each has to live to count.
pub type Connections = BTreeMap<Connection, Duration>;

/// The connections, and who is spared.
#[derive(Clone, Debug, Default)]
pub struct SshPeers {
    /// Since when each connection is known; none: since before the start.
    connections: HashMap<Connection, Option<Duration>>,
    /// When a connection that counts was seen last.
    spared: HashMap<IpAddr, Duration>,
    started: bool,
}

impl SshPeers {
    /// Takes what is connected now.
    pub fn see(&mut self, connected: &Connections, at: Duration) {
        let since = self.started.then_some(at);
        self.started = true;
        self.connections.retain(|connection, _| connected.contains_key(connection));
        for connection in connected.keys() {
            if self.connections.len() < MAX_PEERS {
                self.connections.entry(*connection).or_insert(since);
            }
        }
        for (connection @ (peer, _), since) in &self.connections {
            let needed = connected.get(connection).copied().unwrap_or(LOGGED_IN_DROPBEAR);
            let counts = since.is_none_or(|since| at.saturating_sub(since) >= needed);
            let ip = peer.ip().to_canonical();
            if counts && (self.spared.len() < MAX_PEERS || self.spared.contains_key(&ip)) {
                self.spared.insert(ip, at);
            }
        }
        self.spared.retain(|_, seen| at.saturating_sub(*seen) < KEPT);
    }

    /// Who is spared.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.spared.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(peer: &str) -> Connection {
        (peer.parse().unwrap(), "192.0.2.1:22".parse().unwrap())
    }

    fn connected(to_openssh: &[Connection], to_dropbear: &[Connection]) -> Connections {
        let with = |connections: &[Connection], needed| {
            connections.iter().map(|connection| (*connection, needed)).collect::<Vec<_>>()
        };
        let (openssh, dropbear) = (with(to_openssh, LOGGED_IN), with(to_dropbear, LOGGED_IN_DROPBEAR));
        openssh.into_iter().chain(dropbear).collect()
    }

    fn spared(peers: &SshPeers) -> Vec<String> {
        let mut names: Vec<_> = peers.addresses().map(|ip| ip.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn those_at_the_start_are_spared_and_later_ones_once_they_must_have_logged_in() {
        let at = Duration::from_secs;
        let mut peers = SshPeers::default();
        let (first, second) = (connection("198.51.100.1:4000"), connection("[::ffff:198.51.100.2]:4000"));
        let third = connection("198.51.100.3:4000");
        peers.see(&connected(&[first], &[]), at(0));
        assert_eq!(spared(&peers), ["198.51.100.1"]);
        peers.see(&connected(&[first, second], &[third]), at(30));
        peers.see(&connected(&[second], &[third]), at(179));
        assert_eq!(spared(&peers), ["198.51.100.1"], "the second may be guessing passwords");
        peers.see(&connected(&[second], &[third]), at(180));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"]);
        peers.see(&connected(&[], &[third]), at(359));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"], "dropbear waits longer for a login");
        peers.see(&connected(&[], &[third]), at(360));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
        peers.see(&Connections::new(), at(30 + 3_600));
        assert_eq!(spared(&peers), ["198.51.100.2", "198.51.100.3"], "kept for an hour");
        peers.see(&Connections::new(), at(360 + 3_600));
        assert!(spared(&peers).is_empty());
    }

    #[test]
    fn many_short_connections_never_count_and_are_bounded() {
        let mut peers = SshPeers::default();
        peers.see(&Connections::new(), Duration::ZERO);
        for round in 0..20_u64 {
            let connected = (0..2_000_u16).map(|port| connection(&format!("198.51.100.1:{}", 10_000 + port)));
            // Each round its own ports on the server's side stand for new connections.
            let connected = connected.map(|(peer, mut own)| {
                own.set_port(u16::try_from(round).unwrap());
                ((peer, own), LOGGED_IN)
            });
            peers.see(&connected.collect(), Duration::from_secs(30 * round));
        }
        assert!(spared(&peers).is_empty() && peers.connections.len() == MAX_PEERS);
    }
}
