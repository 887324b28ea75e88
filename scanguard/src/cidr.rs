//! IP addresses and networks as people write them: `192.0.2.7`, `2001:db8::/56`.

use std::net::IpAddr;

use ipnet::IpNet;
use scanguard_common::address::Address;

/// Reads an address, or a network that has no bits beyond its prefix.
///
/// # Errors
/// The text is no network; the error names the fault, and the network that may be meant.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!("\"{text}\" is no address or network such as \"192.0.2.7\" or \"2001:db8::/56\"")
    })?;
    without_host_bits(text, net)
}

/// The network that was read from this text, if it has no bits beyond its prefix.
///
/// # Errors
/// It has some. The message says which network may be meant.
pub fn without_host_bits(text: &str, net: IpNet) -> Result<IpNet, String> {
    let right = net.trunc();
    if right == net {
        Ok(net)
    } else {
        Err(format!("\"{text}\" has bits beyond its prefix; is \"{right}\" meant?"))
    }
}

/// A network as people write it: a single address without its prefix.
pub fn name(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// Networks as people write them, the first of them where there are many.
pub fn names(nets: &[IpNet]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = nets.iter().take(SHOWN).map(|net| name(*net)).collect();
    let more = if nets.len() > SHOWN { ", ..." } else { "" };
    shown.join(", ") + more
}

/// The network that is just one address.
pub fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip.to_canonical())
}

/// The network of an address and so many bits; bits beyond them are dropped.
pub fn net(address: Address, bits: u8) -> IpNet {
    let ip = address.to_ip();
    IpNet::new(ip, bits).map_or_else(|_| host(ip), |net| net.trunc())
}

/// Reads an address or a network. Bits beyond the prefix are kept, for the policy to complain of; IPv4 that is
/// mapped into IPv6 is read as IPv4.
///
/// # Errors
/// It is neither.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(host(ip));
    }
    let wrong = || {
        let start: String = text.chars().take(60).collect();
        format!("{start:?} is no address or network such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64")
    };
    let net: IpNet = text.parse().map_err(|_| wrong())?;
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(ip), Some(bits)) if net.addr().is_ipv6() => {
            IpNet::new(ip.into(), bits).map_err(|_| wrong())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Ok(net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_people_write_them() {
        for (text, read) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7/24", "192.0.2.7/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_net(text).unwrap().to_string(), read, "{text}");
        }
        for text in ["", "me", "192.0.2.0/33", "192.0.2", "2001:db8::/129", "192.0.2.0/-1", "-h"] {
            assert!(parse_net(text).is_err(), "{text}");
        }
        assert_eq!(name(parse_net("192.0.2.7").unwrap()), "192.0.2.7");
        assert_eq!(name(parse_net("192.0.2.0/31").unwrap()), "192.0.2.0/31");
    }
}
