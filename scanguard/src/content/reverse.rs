//! Names of the reverse zones: `7.2.0.192.in-addr.arpa` is the name of 192.0.2.7 (RFC 1035, 3.5; RFC 3596, 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Whether a name is the reverse name of a private address, and the asker has an address of the same private block.
/// Servers and filters ask for the names of all their clients like that.
pub(super) fn is_of_neighbour(name: &str, asker: IpAddr) -> bool {
    let Some(address) = address(name) else { return false };
    private().iter().any(|block| block.contains(&address) && block.contains(&asker))
}

/// Private blocks (RFC 1918, RFC 3927, RFC 4193, RFC 4291, RFC 6598).
fn private() -> [IpNet; 7] {
    let v4 = |octets: [u8; 4], length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(octets), length));
    let v6 = |first: u16, length| {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_segments([first, 0, 0, 0, 0, 0, 0, 0]), length))
    };
    [
        v4([10, 0, 0, 0], 8),
        v4([172, 16, 0, 0], 12),
        v4([192, 168, 0, 0], 16),
        v4([169, 254, 0, 0], 16),
        v4([100, 64, 0, 0], 10),
        v6(0xfc00, 7),
        v6(0xfe80, 10),
    ]
}

/// The address of a whole reverse name.
fn address(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = labels.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let mut nibbles = name.strip_suffix(".ip6.arpa")?.split('.');
    let mut bits = 0u128;
    for place in 0..32 {
        let nibble = nibbles.next().filter(|nibble| nibble.len() == 1)?;
        bits |= u128::from(u8::from_str_radix(nibble, 16).ok()?) << (4 * place);
    }
    nibbles.next().is_none().then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_private_addresses_of_one_block() {
        let nibbles = |address: &str| {
            let bits = u128::from(address.parse::<Ipv6Addr>().unwrap());
            let nibbles = (0..32).map(|place| format!("{:x}.", bits >> (4 * place) & 15));
            nibbles.collect::<String>() + "ip6.arpa"
        };
        for (name, asker, expected) in [
            ("7.0.77.10.in-addr.arpa".to_owned(), "10.1.2.3", true),
            ("7.0.168.192.in-addr.arpa".to_owned(), "192.168.9.1", true),
            ("7.0.77.10.in-addr.arpa".to_owned(), "192.168.9.1", false),
            ("7.0.77.10.in-addr.arpa".to_owned(), "192.0.2.1", false),
            ("7.2.0.192.in-addr.arpa".to_owned(), "192.0.2.1", false),
            ("7.2.0.192.in-addr.arpa".to_owned(), "10.0.0.1", false),
            ("77.10.in-addr.arpa".to_owned(), "10.0.0.1", false),
            ("1.7.0.77.10.in-addr.arpa".to_owned(), "10.0.0.1", false),
            ("host.10.in-addr.arpa".to_owned(), "10.0.0.1", false),
            ("host.corp.example".to_owned(), "10.0.0.1", false),
            (nibbles("fd77::7"), "fd77::2", true),
            (nibbles("2001:db8::7"), "fd77::2", false),
            (nibbles("fd77::7"), "2001:db8::1", false),
            ("7.ip6.arpa".to_owned(), "fd77::2", false),
        ] {
            assert_eq!(is_of_neighbour(&name, asker.parse().unwrap()), expected, "{name} by {asker}");
        }
    }
}
