//! Keys of tries: networks of both families in 16 bytes.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use scanguard_common::address::Address;

/// IPv4 is v4-mapped, so that its prefixes are longer by this many bits.
const V4_BITS: u32 = 96;

/// The key of a network.
pub(super) fn key(ip: IpAddr, bits: u8) -> Key<[u8; 16]> {
    let bits = u32::from(bits) + if ip.is_ipv4() { V4_BITS } else { 0 };
    Key::new(bits, Address::from(ip).bytes())
}

/// The network of a key; nothing if no network has it.
pub(super) fn net(bits: u32, address: [u8; 16]) -> Option<IpNet> {
    let address = Address::from_v6(&address);
    let bits = if address.v4().is_some() { bits.checked_sub(V4_BITS)? } else { bits };
    IpNet::new(address.to_ip(), u8::try_from(bits).ok()?).ok()
}
