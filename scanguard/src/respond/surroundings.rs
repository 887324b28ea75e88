//! Whom this host cannot do without, as it is found in /proc and /etc.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::ssh::{Connection, Connections, LOGGED_IN, LOGGED_IN_DROPBEAR, MAX_PEERS};

/// Where resolvers are named; the second is what systemd-resolved asks itself.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Resolvers that are read of one file; glibc uses 3.
const MAX_RESOLVERS: usize = 16;
/// A larger file names no resolvers.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// SSH servers by the names of their processes, and how long a connection has to live to be that of somebody who has logged
/// in.
const SSH_SERVERS: [(&str, Duration); 2] = [("sshd", LOGGED_IN), ("dropbear", LOGGED_IN_DROPBEAR)];
/// RFC 4253. Where a server listens, as far as that is not known.
const SSH_PORT: (u16, Duration) = (22, LOGGED_IN);
/// `TCP_ESTABLISHED`, `TCP_LISTEN`: include/net/tcp_states.h.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// What was found out when it could be: in its sandbox the agent cannot look into other processes, nor read a file that
/// has taken the place of /etc/resolv.conf. What cannot be looked at is taken to be as it was.
#[derive(Clone, Debug, Default)]
pub struct Known {
    resolvers: [Vec<IpAddr>; RESOLVERS.len()],
    ssh_ports: SshPorts,
}

/// Where SSH servers were seen to listen. A server that is not seen is restarting, as a rule, and whoever is connected to it
/// is still to be spared: what is known is never forgotten.
#[derive(Clone, Debug, Default)]
struct SshPorts(BTreeMap<u16, Duration>);

impl SshPorts {
    fn learn(&mut self, seen: impl IntoIterator<Item = (u16, Duration)>) {
        self.0.extend(seen);
    }

    /// How long a connection to this port has to live to count; none: it is not one to an SSH server. Port 22 counts only as
    /// long as no server is known: what listens there where the server listens elsewhere may be a trap, which holds
    /// scanners for longer than that.
    fn patience(&self, port: u16) -> Option<Duration> {
        match self.0.get(&port) {
            None if self.0.is_empty() && port == SSH_PORT.0 => Some(SSH_PORT.1),
            known => known.copied(),
        }
    }
}

impl Known {
    /// The resolvers of this host.
    pub fn resolvers(&mut self) -> BTreeSet<IpAddr> {
        for (known, path) in self.resolvers.iter_mut().zip(RESOLVERS) {
            if let Some(text) = read_small(path) {
                *known = parse_resolvers(&text);
            }
        }
        self.resolvers.iter().flatten().copied().collect()
    }

    /// The connections to the SSH server of this host that are established now, in the network namespace of this process.
    pub fn ssh_connections(&mut self) -> Connections {
        let tables: Vec<_> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
            .iter()
            .flat_map(|path| parse_sockets(&fs::read_to_string(path).unwrap_or_default()).collect::<Vec<_>>())
            .collect();
        self.ssh_ports.learn(ssh_ports(&tables));
        let ssh = tables.iter().filter(|socket| !socket.listens).filter_map(|socket| {
            Some(((socket.peer, socket.own), self.ssh_ports.patience(socket.own.port())?))
        });
        let mut connections: Connections = ssh.take(MAX_PEERS).collect();
        // Who starts the agent by hand is whoever must not be locked out, wherever its server listens.
        let own = std::env::var("SSH_CONNECTION").ok().as_deref().and_then(parse_ssh_connection);
        connections.extend(own.map(|connection| (connection, LOGGED_IN)));
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

/// The resolvers that a text names. resolv.conf(5): the keyword begins the line; an IPv6 address may have a zone.
pub fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let rest = line.strip_prefix("nameserver")?;
        let word = rest.starts_with([' ', '\t']).then(|| rest.split_whitespace().next())??;
        word.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(address).take(MAX_RESOLVERS).collect()
}

/// "peer port own port", as sshd(8) sets it.
fn parse_ssh_connection(text: &str) -> Option<Connection> {
    let words: Vec<_> = text.split(' ').collect();
    let [peer, peer_port, own, own_port] = words.as_slice() else {
        return None;
    };
    let address =
        |ip: &str, port: &str| Some(SocketAddr::new(ip.split('%').next()?.parse().ok()?, port.parse().ok()?));
    Some((address(peer, peer_port)?, address(own, own_port)?))
}

/// Where processes listen that are SSH servers by their name, as far as this process may look into them.
fn ssh_ports(sockets: &[Socket]) -> Vec<(u16, Duration)> {
    let servers = ssh_servers().into_iter();
    let inodes: BTreeMap<u64, Duration> = servers
        .flat_map(|(process, patience)| {
            socket_inodes(&process).into_iter().map(move |inode| (inode, patience))
        })
        .collect();
    let listening = sockets.iter().filter(|socket| socket.listens);
    listening.filter_map(|socket| Some((socket.own.port(), *inodes.get(&socket.inode)?))).collect()
}

fn ssh_servers() -> Vec<(PathBuf, Duration)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let server = |path: PathBuf| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let (_, patience) = SSH_SERVERS.iter().find(|(server, _)| *server == name.trim_end())?;
        Some((path, *patience))
    };
    processes
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| server(entry.path()))
        .take(MAX_PEERS)
        .collect()
}

/// Its sockets: links such as `socket:[12345]`; nothing if this process may not look.
fn socket_inodes(process: &Path) -> Vec<u64> {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    let inode = |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter_map(inode).collect()
}

/// A row of /proc/net/tcp that listens or is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Socket {
    /// This host's end.
    pub own: SocketAddr,
    /// The other end; unspecified where it listens.
    pub peer: SocketAddr,
    /// Whether it listens; else it is connected.
    pub listens: bool,
    inode: u64,
}

/// The sockets of a table, as Documentation/networking/proc_net_tcp.rst has it. A reader of our own, since the crates that there are read all of /proc.
pub fn parse_sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let listens = match *words.get(3)? {
            LISTEN => true,
            ESTABLISHED => false,
            _ => return None,
        };
        let (own, peer) = (parse_end(words.get(1)?)?, parse_end(words.get(2)?)?);
        Some(Socket { own, peer, listens, inode: words.get(9)?.parse().ok()? })
    })
}

/// "0100007F:0016": the address in words of host byte order, the port as a number.
fn parse_end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |place: usize| {
        let digits = address.get(place * 8..place * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (place, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(place)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver fe80::1%eth0\n \
                    nameserver 192.0.2.8\nnameservers 192.0.2.7\nnameserver here\noptions ndots:2\n";
        let found: Vec<_> = parse_resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1", "fe80::1"]);
    }

    /// Rows as a kernel of little endian writes them.
    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_are_read_from_both_tables() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        let v4 = format!(
            "{head}   0: 00000000:0016 00000000:0000 0A {rest} 11 1\n   1: 0100000A:0016 07640000:C001 01 {rest} 12 1\n   \
             2: 0100000A:0016 07640000:C002 06 {rest} 0 3\nnonsense\n"
        );
        let v6 = format!(
            "{head}   0: B80D0120000000000000000001000000:0016 0000000000000000FFFF0000076433C6:D431 01 {rest} 13 1\n"
        );
        let found: Vec<_> = parse_sockets(&v4).chain(parse_sockets(&v6)).collect();
        let shown: Vec<_> = found.iter().map(|socket| format!("{} {}", socket.own, socket.peer)).collect();
        assert_eq!(
            shown,
            ["0.0.0.0:22 0.0.0.0:0", "10.0.0.1:22 0.0.100.7:49153", "[2001:db8::1]:22 198.51.100.7:54321"]
        );
        assert_eq!(found.iter().map(|socket| socket.listens).collect::<Vec<_>>(), [true, false, false]);
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

    #[test]
    fn the_connection_of_whoever_starts_the_agent_is_read() {
        let connection = parse_ssh_connection("198.51.100.7 50000 192.0.2.1 2222").unwrap();
        assert_eq!(connection.0.to_string(), "198.51.100.7:50000");
        assert_eq!(parse_ssh_connection("198.51.100.7 50000"), None);
        assert_eq!(parse_ssh_connection("who 1 192.0.2.1 22"), None);
    }
}
