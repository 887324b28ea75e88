//! Addresses that are no ordinary destination: those of private networks, and all others of the special-purpose
//! registries of IANA (RFC 6890) that are not reached over the Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks of IPv4, with the number of fixed bits. Loopback, multicast and link-local (169.254.169.254 answers in every
/// cloud) are left out.
const V4: [([u8; 4], u32); 11] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([240, 0, 0, 0], 4),
];

/// Networks of IPv6, likewise. 64:ff9b::/96 is a translator, and 2002::/16 a tunnel.
const V6: [([u16; 2], u32); 5] =
    [([0x100, 0], 64), ([0x2001, 0x2], 48), ([0x2001, 0xdb8], 32), ([0x3fff, 0], 20), ([0xfc00, 0], 7)];

/// Whether an address belongs to a special-purpose network, other than loopback, link-local and multicast.
pub fn is_special(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_broadcast() || ip.is_unspecified() => false,
        IpAddr::V4(ip) => V4.iter().any(|(net, bits)| {
            let differs = ip.to_bits() ^ Ipv4Addr::from(*net).to_bits();
            differs.leading_zeros() >= *bits
        }),
        IpAddr::V6(ip) => V6.iter().any(|([first, second], bits)| {
            let net = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0);
            (ip.to_bits() ^ net.to_bits()).leading_zeros() >= *bits
        }),
    }
}

/// Whether an address is inside: in a private network (RFC 1918, RFC 4193, RFC 6598), on the link, or in one of `own`.
pub fn is_inside(ip: IpAddr, own: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    let private = match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    };
    private || own.iter().any(|net| net.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_those_that_lead_nowhere() {
        for (address, special, inside) in [
            ("10.1.2.3", true, true),
            ("100.64.0.1", true, true),
            ("100.128.0.1", false, false),
            ("172.31.255.255", true, true),
            ("172.32.0.1", false, false),
            ("192.168.1.1", true, true),
            ("198.19.0.1", true, false),
            ("203.0.113.9", true, false),
            ("240.1.1.1", true, false),
            ("255.255.255.255", false, false),
            ("127.0.0.1", false, true),
            ("224.0.0.1", false, false),
            ("169.254.169.254", false, true),
            ("8.8.8.8", false, false),
            ("::ffff:10.0.0.1", true, true),
            ("fd00::1", true, true),
            ("fe80::1", false, true),
            ("2001:db8::1", true, false),
            ("2606:4700::1", false, false),
            ("64:ff9b::a00:1", false, false),
        ] {
            let ip = address.parse().unwrap();
            assert_eq!((is_special(ip), is_inside(ip, &[])), (special, inside), "{address}");
        }
        let own = ["198.51.100.0/24".parse().unwrap()];
        assert!(is_inside("198.51.100.7".parse().unwrap(), &own));
    }
}
