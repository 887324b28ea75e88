//! Whose connections to the SSH server this host has: those people are not locked out.
//!
//! A connection that is there when the agent starts counts at once; a later one only when it has lived longer than
//! sshd's `LoginGraceTime` (120 s unless configured), after which only those who have logged in are still connected.
//! Pure: what is connected is passed in.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How long a connection has to live to count as one of somebody who has logged in.
pub const LOGGED_IN: Duration = Duration::from_secs(150);
/// How long its address is spared after its last connection has ended: long enough to come back.
pub const KEPT: Duration = Duration::from_secs(60 * 60);
/// Connections that are looked at, and addresses that are remembered.
pub const MAX_PEERS: usize = 1_024;

/// A connection to the server: the peer, and the server's end.
pub type Connection = (SocketAddr, SocketAddr);

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
    pub fn see(&mut self, connected: &BTreeSet<Connection>, at: Duration) {
        let since = self.started.then_some(at);
        self.started = true;
        self.connections.retain(|connection, _| connected.contains(connection));
        for connection in connected {
            if self.connections.len() < MAX_PEERS {
                self.connections.entry(*connection).or_insert(since);
            }
        }
        for ((peer, _), since) in &self.connections {
            let counts = since.is_none_or(|since| at.saturating_sub(since) >= LOGGED_IN);
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
        peers.see(&[first].into(), at(0));
        assert_eq!(spared(&peers), ["198.51.100.1"]);
        peers.see(&[first, second].into(), at(30));
        peers.see(&[second].into(), at(179));
        assert_eq!(spared(&peers), ["198.51.100.1"], "the second may be guessing passwords");
        peers.see(&[second].into(), at(180));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"]);
        peers.see(&[].into(), at(30 + 3_600));
        assert_eq!(spared(&peers), ["198.51.100.2"], "kept for an hour");
        peers.see(&[].into(), at(180 + 3_600));
        assert!(spared(&peers).is_empty());
    }

    #[test]
    fn many_short_connections_never_count_and_are_bounded() {
        let mut peers = SshPeers::default();
        peers.see(&BTreeSet::new(), Duration::ZERO);
        for round in 0..20_u64 {
            let connected = (0..2_000_u16).map(|port| connection(&format!("198.51.100.1:{}", 10_000 + port)));
            // Each round its own ports on the server's side stand for new connections.
            let connected = connected.map(|(peer, mut own)| {
                own.set_port(u16::try_from(round).unwrap());
                (peer, own)
            });
            peers.see(&connected.collect(), Duration::from_secs(30 * round));
        }
        assert!(spared(&peers).is_empty() && peers.connections.len() == MAX_PEERS);
    }
}
