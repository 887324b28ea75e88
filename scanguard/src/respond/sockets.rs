//! Reads this host's TCP sockets from /proc/net/tcp and tcp6.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
};

use super::ssh::Connection;

/// `TCP_ESTABLISHED`, `TCP_LISTEN`: include/net/tcp_states.h.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// A listening or connected socket of /proc/net/tcp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Socket {
    /// This host's end.
    pub own: SocketAddr,
    /// The other end; unspecified for a listening socket.
    pub peer: SocketAddr,
    /// Whether it listens; otherwise it is connected.
    pub listens: bool,
    /// Its inode number. None if no process has it, such as a connection that its server has not accepted yet.
    pub inode: Option<NonZeroU64>,
}

impl Socket {
    /// The connection, if the socket is an accepted one. A connection that waits to be accepted has no number yet, and
    /// its time does not count: no user can log in over it, and no server ends it.
    pub(super) fn connection(&self) -> Option<Connection> {
        let is_one = !self.listens && self.inode.is_some();
        is_one.then_some(Connection { peer: self.peer, own: self.own, inode: self.inode })
    }
}

/// Parses the sockets of a table (Documentation/networking/proc_net_tcp.rst). The reader is our own, since the existing
/// crates read all of /proc.
pub fn parse_sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let listens = match *words.get(3)? {
            LISTEN => true,
            ESTABLISHED => false,
            _ => return None,
        };
        let (own, peer) = (parse_end(words.get(1)?)?, parse_end(words.get(2)?)?);
        let inode = NonZeroU64::new(words.get(9)?.parse().ok()?);
        Some(Socket { own, peer, listens, inode })
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

    /// Rows as a little-endian kernel writes them.
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
}
