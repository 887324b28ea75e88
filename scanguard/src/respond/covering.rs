//! The network around a ban. One customer has many addresses: what is limited for everybody is counted by networks.

use ipnet::IpNet;

/// Bits of the networks that are counted, for IPv4: the smallest that is announced to the Internet.
const NETWORK_V4: u8 = 24;
/// The same for IPv6: what one site gets at most (RFC 6177).
const NETWORK_V6: u8 = 48;

/// The network under which a ban is counted. A ban that is wider counts as itself.
pub fn counted_as(net: IpNet) -> IpNet {
    let bits = match net {
        IpNet::V4(_) => NETWORK_V4,
        IpNet::V6(_) => NETWORK_V6,
    };
    IpNet::new(net.addr(), bits.min(net.prefix_len())).map_or(net, |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::{super::testing::net, *};

    #[test]
    fn a_ban_counts_under_the_network_around_it() {
        for (banned, counted) in [
            ("192.0.2.9/32", "192.0.2.0/24"),
            ("192.0.2.128/25", "192.0.2.0/24"),
            ("192.0.0.0/16", "192.0.0.0/16"),
            ("2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("::1/128", "::/48"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(counted_as(net(banned)), net(counted));
        }
    }
}
