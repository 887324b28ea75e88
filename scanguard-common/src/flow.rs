//! Tags of flows: 64 bits by which the program recognizes a flow that it judged before.
//!
//! Two flows with the same tag are mistaken for one. With a secret salt and 64 bits nobody can use this to get in.

use crate::{
    outcome::Flow,
    wire::{Ipv4, Ipv6, Tcp, protocol},
};

/// An odd number with its bits well spread: 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes a word into a hash. Use the upper bits of the result: they are mixed best.
#[inline(always)]
pub const fn stir(state: u64, word: u64) -> u64 {
    let state = (state ^ word).wrapping_mul(SPREAD);
    state ^ state >> 32
}

#[inline(always)]
fn ports(protocol: u8, source: u16, destination: u16) -> u64 {
    u64::from(protocol) << 32 | u64::from(source) << 16 | u64::from(destination)
}

#[inline(always)]
fn two_words(salt: u64, addresses: u64, ports: u64) -> u64 {
    // Never 0, because 0 is the value of an empty place in a table.
    stir(stir(salt, addresses), ports) | 1
}

#[inline(always)]
fn five_words(salt: u64, source: [u64; 2], destination: [u64; 2], ports: u64) -> u64 {
    let state = stir(stir(salt, source[0]), source[1]);
    stir(stir(stir(state, destination[0]), destination[1]), ports) | 1
}

#[inline(always)]
fn v4_pair(source: &[u8; 4], destination: &[u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(*source)) << 32 | u64::from(u32::from_ne_bytes(*destination))
}

/// The tag of a TCP flow over IPv4, from its headers.
#[inline(always)]
pub fn tag_v4(ip: &Ipv4, tcp: &Tcp, salt: u64) -> u64 {
    let ports = ports(protocol::TCP, tcp.source.get(), tcp.destination.get());
    two_words(salt, v4_pair(&ip.source, &ip.destination), ports)
}

/// The tag of a TCP flow over IPv6, from its headers.
#[inline(always)]
pub fn tag_v6(ip: &Ipv6, tcp: &Tcp, salt: u64) -> u64 {
    let ports = ports(protocol::TCP, tcp.source.get(), tcp.destination.get());
    let words = |bytes| crate::address::Address::from_v6(bytes).words();
    five_words(salt, words(&ip.source), words(&ip.destination), ports)
}

/// The tag of any flow.
#[inline(always)]
pub fn tag(flow: &Flow, salt: u64) -> u64 {
    let ports = ports(flow.service.protocol, flow.source_port, flow.service.port);
    match (flow.source.v4(), flow.destination.v4()) {
        (Some(source), Some(destination)) => two_words(salt, v4_pair(&source, &destination), ports),
        _ => five_words(salt, flow.source.words(), flow.destination.words(), ports),
    }
}
