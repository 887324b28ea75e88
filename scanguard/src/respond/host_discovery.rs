//! Finds the addresses that this host depends on, in /proc and /etc.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    sockets::{Socket, parse_sockets},
    ssh::{Connection, Connections, LOGGED_IN, Login, Session},
    ssh_servers::SshServers,
};

/// The files that name resolvers; the second names the resolvers that systemd-resolved asks.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Maximum number of resolvers per file; glibc uses 3.
const MAX_RESOLVERS: usize = 16;
/// Maximum size of such a file; a larger one is ignored.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The port of RFC 4253. It is used while the ports of servers are not known.
const SSH_PORT: (u16, Duration) = (22, LOGGED_IN);
/// The facts found while the agent could read them. In its sandbox the agent cannot inspect other processes, nor read a
/// file that replaced /etc/resolv.conf. Facts that cannot be read are assumed to be unchanged.
#[derive(Clone, Debug, Default)]
pub struct Known {
    resolvers: [Vec<IpAddr>; RESOLVERS.len()],
    ssh_ports: SshPorts,
    starter: Starter,
    /// What root saw of SSH servers before the start. It is used once: later it would be out of date.
    seen_before: SshServers,
}

/// The SSH connection over which a user started the agent by hand; sshd(8) passes it to the commands that it starts.
#[derive(Clone, Copy, Debug, Default)]
enum Starter {
    /// Not yet looked up.
    #[default]
    Unasked,
    /// The agent was not started over a connection, or over one that is not among the sockets here.
    None,
    /// This connection.
    Found(Connection),
}

impl Starter {
    /// The connection, if it exists now. One that is not among the sockets counts as connected at the first look only,
    /// since later the agent cannot know whether it still exists.
    fn connected(
        &mut self,
        sockets: &[Socket],
        starter: impl FnOnce() -> Option<Ends>,
    ) -> Option<Connection> {
        match *self {
            Self::None => None,
            Self::Found(connection) => {
                sockets.iter().filter_map(Socket::connection).find(|one| *one == connection)
            }
            Self::Unasked => {
                let Some((peer, own)) = starter() else {
                    *self = Self::None;
                    return None;
                };
                let mut connections = sockets.iter().filter_map(Socket::connection);
                let found = connections.find(|one| (one.peer, one.own) == (peer, own));
                *self = found.map_or(Self::None, Self::Found);
                found.or(Some(Connection { peer, own, inode: None }))
            }
        }
    }
}

/// The other end of a connection, and this host's.
type Ends = (SocketAddr, SocketAddr);

/// The ports at which SSH servers were seen to listen. A server that disappears is usually restarting, and its
/// connected users still have to be spared, so known ports are never forgotten.
#[derive(Clone, Debug, Default)]
struct SshPorts(BTreeMap<u16, Duration>);

impl SshPorts {
    fn learn(&mut self, seen: impl IntoIterator<Item = (u16, Duration)>) {
        self.0.extend(seen);
    }

    /// How long a connection to this port has to live to count; none if the port is not that of an SSH server. Port 22
    /// counts only while no server is known: if the server listens elsewhere, port 22 may be a trap that holds scanners
    /// for longer than that.
    fn patience(&self, port: u16) -> Option<Duration> {
        match self.0.get(&port) {
            None if self.0.is_empty() && port == SSH_PORT.0 => Some(SSH_PORT.1),
            known => known.copied(),
        }
    }
}

impl Known {
    /// Nothing is known, but what root saw of SSH servers before the start.
    pub fn new(seen_before: SshServers) -> Self {
        Self { seen_before, ..Self::default() }
    }

    /// The resolvers of this host.
    pub fn resolvers(&mut self) -> BTreeSet<IpAddr> {
        for (known, path) in self.resolvers.iter_mut().zip(RESOLVERS) {
            if let Some(text) = read_small(path) {
                *known = parse_resolvers(&text);
            }
        }
        self.resolvers.iter().flatten().copied().collect()
    }

    /// The connections that the SSH server of this host has accepted and that are established now, in the network
    /// namespace of this process.
    pub fn ssh_connections(&mut self) -> Connections {
        let sockets: Vec<_> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
            .iter()
            .flat_map(|path| parse_sockets(&fs::read_to_string(path).unwrap_or_default()).collect::<Vec<_>>())
            .collect();
        let mut servers = SshServers::find();
        servers.extend(std::mem::take(&mut self.seen_before));
        self.connections(&sockets, &servers, || {
            std::env::var("SSH_CONNECTION").ok().as_deref().and_then(parse_ssh_connection)
        })
    }

    /// As above, from these sockets, the servers' processes, and the starter's connection in the environment.
    fn connections(
        &mut self,
        sockets: &[Socket],
        servers: &SshServers,
        starter: impl FnOnce() -> Option<Ends>,
    ) -> Connections {
        self.ssh_ports.learn(servers.ports(sockets));
        let ssh = sockets.iter().filter_map(Socket::connection).filter_map(|connection| {
            let needed = self.ssh_ports.patience(connection.own.port())?;
            Some((connection, Session { needed, login: servers.login(connection.inode?, sockets) }))
        });
        let mut connections: Connections = ssh.collect();
        // A user who starts the agent by hand must not be locked out, wherever the server listens.
        let starter = self.starter.connected(sockets, starter);
        let session = Session { needed: LOGGED_IN, login: Login::Done };
        connections.extend(starter.map(|connection| (connection, session)));
        connections
    }
}

/// A file's text, empty if there is no such file or it is too large; none if it may not be read.
fn read_small(path: &str) -> Option<String> {
    let small =
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE_BYTES);
    if !small {
        return Some(String::new());
    }
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        read => Some(read.unwrap_or_default()),
    }
}

/// Parses the resolvers in a text. resolv.conf(5): the keyword begins the line; an IPv6 address may have a zone.
pub fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let rest = line.strip_prefix("nameserver")?;
        let word = rest.starts_with([' ', '\t']).then(|| rest.split_whitespace().next())??;
        word.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(address).take(MAX_RESOLVERS).collect()
}

/// "peer port own port", as sshd(8) sets it.
fn parse_ssh_connection(text: &str) -> Option<Ends> {
    let words: Vec<_> = text.split(' ').collect();
    let [peer, peer_port, own, own_port] = words.as_slice() else {
        return None;
    };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(ip.to_canonical(), port.parse().ok()?))
    };
    Some((address(peer, peer_port)?, address(own, own_port)?))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::respond::ssh::LOGGED_IN_DROPBEAR;

    #[test]
    fn resolvers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver fe80::1%eth0\n \
                    nameserver 192.0.2.8\nnameservers 192.0.2.7\nnameserver here\noptions ndots:2\n";
        let found: Vec<_> = parse_resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1", "fe80::1"]);
    }

    #[test]
    fn where_an_ssh_server_was_seen_is_not_forgotten_and_port_22_counts_while_none_was() {
        let mut ports = SshPorts::default();
        assert_eq!((ports.patience(22), ports.patience(2222)), (Some(LOGGED_IN), None));
        ports.learn([(2222, LOGGED_IN)]);
        ports.learn([]);
        assert_eq!((ports.patience(22), ports.patience(2222)), (None, Some(LOGGED_IN)), "it is restarting");
        ports.learn([(22, LOGGED_IN_DROPBEAR)]);
        assert_eq!((ports.patience(22), ports.patience(2222)), (Some(LOGGED_IN_DROPBEAR), Some(LOGGED_IN)));
    }

    fn socket(peer: &str, own: &str, inode: u64) -> Socket {
        let (peer, own): Ends = (peer.parse().unwrap(), own.parse().unwrap());
        Socket { own, peer, listens: false, inode: NonZeroU64::new(inode) }
    }

    /// The connected inodes, and whether each certainly has a login.
    fn seen(known: &mut Known, sockets: &[Socket], starter: Option<Ends>) -> Vec<(u64, bool)> {
        let connections = known.connections(sockets, &SshServers::default(), || starter);
        let inode = |connection: &Connection| connection.inode.map_or(0, NonZeroU64::get);
        connections.iter().map(|(one, session)| (inode(one), session.login == Login::Done)).collect()
    }

    #[test]
    fn a_connection_that_no_server_has_accepted_is_none() {
        let waiting = socket("198.51.100.1:4000", "192.0.2.1:22", 0);
        let accepted = socket("198.51.100.1:4000", "192.0.2.1:22", 12);
        assert_eq!(seen(&mut Known::default(), &[waiting], None), []);
        assert_eq!(seen(&mut Known::default(), &[accepted], None), [(12, false)]);
    }

    #[test]
    fn the_connection_of_the_starter_is_found_among_the_sockets_and_ends_with_its_socket() {
        let starter = parse_ssh_connection("::ffff:198.51.100.1 4000 192.0.2.1 2222");
        let first = socket("198.51.100.1:4000", "192.0.2.1:2222", 12);
        let again = socket("198.51.100.1:4000", "192.0.2.1:2222", 13);
        let mut known = Known::default();
        assert_eq!(seen(&mut known, &[first], starter), [(12, true)]);
        assert_eq!(seen(&mut known, &[first], starter), [(12, true)], "as long as it lives");
        assert_eq!(seen(&mut known, &[again], starter), [], "another from the same port");

        let mut known = Known::default();
        assert_eq!(seen(&mut known, &[], starter), [(0, true)], "its socket is elsewhere");
        assert_eq!(seen(&mut known, &[again], starter), [], "it is not looked for again");
    }

    #[test]
    fn the_connection_of_whoever_starts_the_agent_is_read() {
        let connection = parse_ssh_connection("198.51.100.7 50000 192.0.2.1 2222").unwrap();
        assert_eq!(connection.0.to_string(), "198.51.100.7:50000");
        assert_eq!(parse_ssh_connection("198.51.100.7 50000"), None);
        assert_eq!(parse_ssh_connection("who 1 192.0.2.1 22"), None);
    }
}
