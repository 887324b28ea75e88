//! Tracks the connections to this host's SSH server, so that their users are not locked out.
//!
//! A connection is identified by its socket: a new connection from the same port is another one. It counts if its
//! server's process shows a login, or if it has lived longer than the server keeps connections without a login. At
//! the start, a connection whose process cannot be inspected counts too. Mere attempts never count, not even from an
//! address that counts already. Pure: the connections are passed in.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    time::Duration,
};

/// How long a connection to OpenSSH has to live to count as logged in: its `LoginGraceTime` is 120 s by default.
pub const LOGGED_IN: Duration = Duration::from_secs(150);
/// The same for Dropbear: `AUTH_TIMEOUT`, `default_options.h`, is 300 s.
pub const LOGGED_IN_DROPBEAR: Duration = Duration::from_secs(330);
/// How long an address is spared after its last connection has ended: long enough to come back.
pub const KEPT: Duration = Duration::from_secs(60 * 60);
/// Maximum number of remembered connections, and of addresses.
pub const MAX_PEERS: usize = 1_024;

/// A connection to the server. It lasts as long as its socket.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    /// The server's end.
    pub own: SocketAddr,
    /// The server's socket. None: one that is not among the sockets of this network namespace. The kernel numbers
    /// sockets modulo 2^32 (`get_next_ino`, fs/inode.c), so that none has the number of one that was there at the last
    /// look.
    pub inode: Option<NonZeroU64>,
}

/// Whether a connection has a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Login {
    /// The server shows a login.
    Done,
    /// The server shows no login; its process for this connection has run for this long.
    Open(Duration),
    /// The server's processes could not be inspected.
    Unknown,
}

/// The facts about a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Session {
    /// How long it has to live to count although the server shows no login.
    pub needed: Duration,
    /// The login state according to the server.
    pub login: Login,
}

/// The connections that a server has accepted.
pub type Connections = BTreeMap<Connection, Session>;

/// The record of a connection.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// When it was first seen.
    seen: Duration,
    /// Its least age at that time.
    age: Duration,
    /// Whether it counts at any age.
    counts: bool,
}

/// The connections, and the addresses that are spared.
#[derive(Clone, Debug, Default)]
pub struct SshPeers {
    connections: HashMap<Connection, Life>,
    /// When a connection that counts was last seen.
    spared: HashMap<IpAddr, Duration>,
    started: bool,
}

impl SshPeers {
    /// Takes the current connections.
    pub fn see(&mut self, connected: &Connections, at: Duration) {
        let is_start = !std::mem::replace(&mut self.started, true);
        self.connections.retain(|connection, _| connected.contains_key(connection));
        // If there is no room for all, connections with a login come first.
        let (done, others): (Vec<_>, Vec<_>) =
            connected.iter().partition(|(_, session)| session.login == Login::Done);
        for (connection, session) in done.into_iter().chain(others) {
            let (age, counts) = match session.login {
                Login::Done => (Duration::ZERO, true),
                Login::Open(age) => (age, false),
                Login::Unknown => (Duration::ZERO, is_start),
            };
            if let Some(life) = self.connections.get_mut(connection) {
                life.counts |= session.login == Login::Done;
            } else if self.connections.len() < MAX_PEERS {
                self.connections.insert(*connection, Life { seen: at, age, counts });
            }
        }
        for (connection, life) in &self.connections {
            let age = at.saturating_sub(life.seen).saturating_add(life.age);
            let counts =
                life.counts || connected.get(connection).is_some_and(|session| age >= session.needed);
            let ip = connection.peer.ip().to_canonical();
            if counts && (self.spared.len() < MAX_PEERS || self.spared.contains_key(&ip)) {
                self.spared.insert(ip, at);
            }
        }
        self.spared.retain(|_, seen| at.saturating_sub(*seen) < KEPT);
    }

    /// The addresses that are spared.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.spared.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(peer: &str, inode: u64) -> Connection {
        Connection {
            peer: peer.parse().unwrap(),
            own: "192.0.2.1:22".parse().unwrap(),
            inode: NonZeroU64::new(inode),
        }
    }

    fn to_openssh(connections: &[Connection], login: Login) -> Connections {
        connections.iter().map(|connection| (*connection, Session { needed: LOGGED_IN, login })).collect()
    }

    fn unknown(connections: &[Connection]) -> Connections {
        to_openssh(connections, Login::Unknown)
    }

    fn spared(peers: &SshPeers) -> Vec<String> {
        let mut names: Vec<_> = peers.addresses().map(|ip| ip.to_string()).collect();
        names.sort();
        names
    }

    /// Seconds.
    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Peers of an agent that was started when nobody was connected.
    fn started() -> SshPeers {
        let mut peers = SshPeers::default();
        peers.see(&Connections::new(), at(0));
        peers
    }

    #[test]
    fn whom_nothing_is_known_of_is_spared_at_the_start_and_later_once_he_must_have_logged_in() {
        let mut peers = SshPeers::default();
        let (first, second) =
            (connection("198.51.100.1:4000", 11), connection("[::ffff:198.51.100.2]:4000", 12));
        let third = connection("198.51.100.3:4000", 13);
        let dropbear = Session { needed: LOGGED_IN_DROPBEAR, login: Login::Unknown };
        peers.see(&unknown(&[first]), at(0));
        assert_eq!(spared(&peers), ["198.51.100.1"]);
        let and_third = |mut others: Connections| {
            others.insert(third, dropbear);
            others
        };
        peers.see(&and_third(unknown(&[first, second])), at(30));
        peers.see(&and_third(unknown(&[second])), at(179));
        assert_eq!(spared(&peers), ["198.51.100.1"], "the second may be guessing passwords");
        peers.see(&and_third(unknown(&[second])), at(180));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"]);
        peers.see(&and_third(Connections::new()), at(359));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"], "dropbear waits longer for a login");
        peers.see(&and_third(Connections::new()), at(360));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
        peers.see(&Connections::new(), at(30 + 3_600));
        assert_eq!(spared(&peers), ["198.51.100.2", "198.51.100.3"], "kept for an hour");
        peers.see(&Connections::new(), at(360 + 3_600));
        assert!(spared(&peers).is_empty());
    }

    #[test]
    fn a_connection_that_comes_back_from_the_same_port_is_a_new_one() {
        let mut peers = started();
        for round in 0..100 {
            // A hundred seconds each, seen every ten: never longer than the server allows without a login.
            let held = connection("198.51.100.1:4000", 100 + round);
            for look in 0..10 {
                peers.see(&unknown(&[held]), at(100 * round + 10 * look));
                assert!(spared(&peers).is_empty(), "round {round}");
            }
        }
    }

    #[test]
    fn who_has_not_logged_in_is_not_spared_because_the_agent_starts() {
        let mut peers = SshPeers::default();
        let (held, older) = (connection("198.51.100.1:4000", 11), connection("198.51.100.2:4000", 12));
        let mut connected = to_openssh(&[held], Login::Open(at(100)));
        connected.extend(to_openssh(&[older], Login::Open(at(150))));
        peers.see(&connected, at(0));
        assert_eq!(spared(&peers), ["198.51.100.2"], "the process of the older one tells its age");
        // In its sandbox the agent can no longer see processes.
        peers.see(&unknown(&[held, older]), at(49));
        assert_eq!(spared(&peers), ["198.51.100.2"]);
        peers.see(&unknown(&[held, older]), at(50));
        assert_eq!(spared(&peers), ["198.51.100.1", "198.51.100.2"]);
    }

    #[test]
    fn who_has_logged_in_is_spared_at_once() {
        let mut peers = started();
        let session = connection("198.51.100.1:4000", 11);
        peers.see(&to_openssh(&[session], Login::Open(at(1))), at(10));
        assert!(spared(&peers).is_empty());
        peers.see(&to_openssh(&[session], Login::Done), at(20));
        assert_eq!(spared(&peers), ["198.51.100.1"]);
    }

    #[test]
    fn attempts_beside_an_old_session_renew_nothing() {
        let mut peers = started();
        let session = connection("198.51.100.1:4000", 1);
        let attempts =
            |round: u64| (0..100).map(move |one| connection("198.51.100.1:5000", 100 * round + one + 2));
        for round in 0..10 {
            let connected: Vec<_> = attempts(round).chain([session]).collect();
            peers.see(&unknown(&connected), at(30 * round));
        }
        assert_eq!(spared(&peers), ["198.51.100.1"]);
        let last = 30 * 9;
        for round in 10..=128 {
            peers.see(&unknown(&attempts(round).collect::<Vec<_>>()), at(30 * round));
        }
        assert_eq!(spared(&peers), ["198.51.100.1"], "an hour is not over");
        peers.see(&unknown(&attempts(129).collect::<Vec<_>>()), at(last + 3_600));
        assert!(spared(&peers).is_empty(), "attempts have renewed it");
    }

    #[test]
    fn many_short_connections_never_count_are_bounded_and_keep_nobody_out_who_has_logged_in() {
        let mut peers = started();
        for round in 0..20 {
            let short = (0..2_000).map(|one| connection("198.51.100.1:4000", 1 + 2_000 * round + one));
            peers.see(&unknown(&short.collect::<Vec<_>>()), at(30 * round));
        }
        assert!(spared(&peers).is_empty() && peers.connections.len() == MAX_PEERS);
        let mut connected =
            unknown(&(0..2_000).map(|one| connection("198.51.100.1:4000", 50_000 + one)).collect::<Vec<_>>());
        connected.extend(to_openssh(&[connection("198.51.100.9:4000", 99_999)], Login::Done));
        peers.see(&connected, at(600));
        assert_eq!(spared(&peers), ["198.51.100.9"]);
    }
}
