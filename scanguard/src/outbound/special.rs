//! Addresses that are no ordinary destination: those of private networks, and all others of the special-purpose
//! registries of IANA (RFC 6890) that are not reached over the Internet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// Networks of IPv4, with the number of fixed bits. Loopback, multicast and link-local (169.254.169.254 answers in every
/// cloud) are left out.
const V4: [([u8; 4], u8); 11] = [
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
const V6: [([u16; 2], u8); 5] =
    [([0x100, 0], 64), ([0x2001, 0x2], 48), ([0x2001, 0xdb8], 32), ([0x3fff, 0], 20), ([0xfc00, 0], 7)];

/// The special-purpose networks, other than loopback, link-local and multicast.
fn special() -> impl Iterator<Item = IpNet> {
    let v4 = V4.iter().map(|(net, bits)| IpNet::new_assert(Ipv4Addr::from(*net).into(), *bits));
    let v6 = V6.iter().map(|([first, second], bits)| {
        IpNet::new_assert(Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0).into(), *bits)
    });
    v4.chain(v6)
}

/// Which networks lead nowhere, where these are known (`near`): the special-purpose ones in which no other network here
/// says otherwise. Of several networks with an address, the longest holds. There are at most so many, the special-purpose
/// ones among them; if more are known, the longest of these are left out.
pub fn nowhere(near: &[IpNet], most: usize) -> BTreeMap<IpNet, bool> {
    let near = IpNet::aggregate(&near.to_vec());
    let leads = special().filter(|net| !near.iter().any(|near| near.contains(net)));
    let mut nets: BTreeMap<_, _> = leads.map(|net| (net, true)).collect();
    let mut known: Vec<_> =
        near.iter().map(IpNet::trunc).filter(|near| nets.keys().any(|net| net.contains(near))).collect();
    known.sort_unstable_by_key(IpNet::prefix_len);
    known.truncate(most.saturating_sub(nets.len()));
    nets.extend(known.into_iter().map(|net| (net, false)));
    nets
}

/// Whether an address leads nowhere, as the kernel's program looks it up in these networks.
#[cfg(test)]
pub fn leads_nowhere(ip: IpAddr, nets: &BTreeMap<IpNet, bool>) -> bool {
    let ip = ip.to_canonical();
    let around = nets.iter().filter(|(net, _)| net.contains(&ip));
    around.max_by_key(|(net, _)| net.prefix_len()).is_some_and(|(_, leads)| *leads)
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
            let nets = nowhere(&[], 100);
            assert_eq!((leads_nowhere(ip, &nets), is_inside(ip, &[])), (special, inside), "{address}");
        }
        let own = ["198.51.100.0/24".parse().unwrap()];
        assert!(is_inside("198.51.100.7".parse().unwrap(), &own));
    }

    #[test]
    fn networks_that_are_known_here_lead_somewhere() {
        let near: Vec<IpNet> = ["10.0.0.0/7", "192.168.7.0/24", "20.0.0.0/8", "fd00:1::/32"]
            .map(|net| net.parse().unwrap())
            .into();
        let nets = nowhere(&near, 100);
        for (address, leads) in [
            ("10.1.2.3", false),
            ("192.168.7.9", false),
            ("192.168.8.9", true),
            ("172.16.0.1", true),
            ("20.1.1.1", false),
            ("fd00:1::1", false),
            ("fd00:2::1", true),
        ] {
            assert_eq!(leads_nowhere(address.parse().unwrap(), &nets), leads, "{address}");
        }
        assert!(!nets.contains_key(&"20.0.0.0/8".parse().unwrap()), "no special network is around it");
    }

    #[test]
    fn the_longest_networks_are_left_out_if_there_are_too_many() {
        let mut near: Vec<IpNet> =
            (0..200).map(|part| format!("172.16.{part}.4/30").parse().unwrap()).collect();
        near.push("192.168.0.0/20".parse().unwrap());
        let nets = nowhere(&near, 20);
        assert_eq!(nets.len(), 20);
        assert!(!leads_nowhere("192.168.1.1".parse().unwrap(), &nets));
    }
}
