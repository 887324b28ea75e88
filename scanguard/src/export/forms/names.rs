//! Names of sources and protocols, common to all formats.

use std::borrow::Cow;

use scanguard_common::address::{Address, source_bits};

use crate::detect::findings::Finding;

/// A source in the usual notation: an address, or an IPv6 prefix.
pub(crate) struct SourceName {
    address: Address,
    bits: u8,
    /// The name of an actor, who has no address.
    actor: Option<String>,
}

impl SourceName {
    /// The name of a source, if so many bits of IPv6 sources are kept.
    pub(crate) fn new(address: Address, ipv6_prefix: u8) -> Self {
        Self { address, bits: source_bits(address, ipv6_prefix), actor: None }
    }

    /// The name of the source of a finding.
    pub(crate) fn of(finding: &Finding, ipv6_prefix: u8) -> Self {
        let counted = Self::new(finding.source, ipv6_prefix);
        if let Some(actor) = &finding.actor {
            let address = actor.address.map_or(Address::UNSPECIFIED, Address::from);
            return Self { address, bits: 128, actor: Some(actor.to_string()) };
        }
        Self { bits: finding.bits.unwrap_or(counted.bits), ..counted }
    }

    /// The length of the prefix; none if the source is one address.
    pub(super) fn prefix(&self) -> Option<u8> {
        (!self.address.is_v4() && self.bits < 128).then_some(self.bits)
    }
}

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(actor) = &self.actor {
            return f.write_str(actor);
        }
        if self.address == Address::UNSPECIFIED {
            return f.write_str("forged sources");
        }
        let ip = self.address.to_ip();
        match self.prefix() {
            None => ip.fmt(f),
            Some(bits) => write!(f, "{ip}/{bits}"),
        }
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
