//! Networks as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads an address, or a network that has no bits beyond its prefix.
///
/// # Errors
/// What is wrong with it, and what may be meant.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!("\"{text}\" is no address or network such as \"192.0.2.7\" or \"2001:db8::/56\"")
    })?;
    if net.trunc() != net {
        return Err(format!("\"{text}\" has bits beyond its prefix; is \"{}\" meant?", net.trunc()));
    }
    Ok(net)
}
