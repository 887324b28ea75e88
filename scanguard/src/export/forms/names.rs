//! Names of sources and protocols, common to all formats.

use std::borrow::Cow;

use scanguard_common::address::Address;

/// A source in the usual notation: an address, or an IPv6 prefix.
pub(crate) struct SourceName {
    pub(crate) address: Address,
    pub(crate) ipv6_prefix: u8,
}

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.address == Address::UNSPECIFIED {
            return f.write_str("forged sources");
        }
        let ip = self.address.to_ip();
        if self.address.is_v4() || self.ipv6_prefix == 128 {
            return ip.fmt(f);
        }
        write!(f, "{ip}/{}", self.ipv6_prefix)
    }
}

/// The transport by its name in /etc/protocols; others by number.
pub(super) fn protocol_name(number: u8) -> Cow<'static, str> {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        other => other.to_string().into(),
    }
}
