//! Answers to SYNs that somebody else sent in this host's name: a server is flooded, and it answers.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::Result;
use scanguard_common::wire::tcp_flags::{ACK, SYN};

use crate::fixtures::{
    frames::{V4, tcp, v4_with},
    lab::{ROUTED, SCANNER, SCANNER_INTERFACE, VICTIM},
    stage::Stage,
    wire::Wire,
};

/// How many answers there are.
const ANSWERS: u32 = 3_000;
/// Between two of them.
const PACE: Duration = Duration::from_millis(2);

/// The flood in which this host's addresses are forged.
struct Flood {
    /// From which port the servers answer.
    from: u16,
    /// The lowest forged port. All from there on are as frequent.
    first: u16,
    /// How many servers are flooded.
    servers: u8,
    /// Whether all addresses of the routed network are forged, or only this host's own.
    network: bool,
}

/// A web server. Any port is forged.
pub(super) fn web(stage: &mut Stage<'_>) -> Result<()> {
    play(stage, &Flood { from: 443, first: 1, servers: 1, network: false })
}

/// A server of a game. Ports of clients are forged.
pub(super) fn game(stage: &mut Stage<'_>) -> Result<()> {
    play(stage, &Flood { from: 25_565, first: 1_024, servers: 1, network: false })
}

/// A server whose port is one of clients.
pub(super) fn client_port(stage: &mut Stage<'_>) -> Result<()> {
    play(stage, &Flood { from: 50_051, first: 1, servers: 1, network: false })
}

/// A web server, and all addresses of a network are forged.
pub(super) fn network(stage: &mut Stage<'_>) -> Result<()> {
    play(stage, &Flood { from: 80, first: 1, servers: 1, network: true })
}

/// Twelve servers that are flooded at once.
pub(super) fn servers(stage: &mut Stage<'_>) -> Result<()> {
    play(stage, &Flood { from: 443, first: 1, servers: 12, network: true })
}

/// The random number with this index: splitmix64.
fn random(index: u32) -> u64 {
    let mixed = u64::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn play(stage: &mut Stage<'_>, flood: &Flood) -> Result<()> {
    let (scanner, victim): (Ipv4Addr, Ipv4Addr) = (SCANNER.parse()?, VICTIM.parse()?);
    let network: Ipv4Addr = format!("{ROUTED}.0").parse()?;
    let wire = stage.lab.scanner.enter(|| Wire::open(SCANNER_INTERFACE))?;
    for number in 0..ANSWERS {
        let random = random(number);
        let port = u16::try_from(random >> 48)?.max(flood.first);
        let server = scanner.to_bits() + 100 + number % u32::from(flood.servers);
        let forged = network.to_bits() + u32::try_from(random % 256)?;
        let header = V4 {
            protocol: 6,
            source: Some(if flood.servers == 1 { scanner } else { Ipv4Addr::from_bits(server) }),
            destination: Some(if flood.network { Ipv4Addr::from_bits(forged) } else { victim }),
            ..V4::default()
        };
        let mut segment = tcp(SYN | ACK, port);
        segment[..2].copy_from_slice(&flood.from.to_be_bytes());
        wire.send(&v4_with(&header, &segment))?;
        thread::sleep(PACE);
    }
    Ok(())
}
