//! What ScanGuard's kernel program and its agent share.
//!
//! One parser, one classifier and one accounting function serve the XDP program, the agent, replay
//! and the tests. Everything here is pure, `no_std`, allocation-free and has no panicking path, since
//! the kernel's verifier takes nothing else.
//!
//! ```text
//! frame -> parse::parse -> classify::classify -> Outcome -> oracle -> Decision -> account::record
//! ```
#![no_std]

pub mod abi;
pub mod account;
pub mod address;
pub mod classify;
pub mod content;
pub mod door;
pub mod egress;
pub mod epoch;
pub mod flow;
pub mod gate;
pub mod hold;
pub mod oracle;
pub mod outcome;
pub mod packet;
pub mod parse;
pub mod proof;
#[cfg(test)]
mod proofs;
pub mod sample;
pub mod shield;
pub mod sketch;
pub mod tally;
pub mod wire;

use outcome::Outcome;
use packet::Packet;

/// Parses and classifies one frame: all that can be said of it without asking for sockets.
#[inline(always)]
pub fn inspect<P: Packet>(packet: &P) -> Outcome {
    match parse::parse(packet) {
        Ok(headers) => classify::classify(packet, &headers),
        Err(exit) => Outcome::Exit(exit),
    }
}
