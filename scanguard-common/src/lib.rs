//! Code that ScanGuard's kernel program and its agent share.
//!
//! One parser, one classifier and one accounting function serve the XDP program, the agent, replay
//! and the tests. Everything here is pure, `no_std`, allocation-free and has no panicking path, since
//! the kernel's verifier takes nothing else.
//!
//! ```text
//! frame -> parse -> classify::classify -> Outcome -> oracle -> Decision -> account::record
//! ```
#![no_std]

pub mod abi;
pub mod account;
pub mod actor;
pub mod actor_field;
pub mod address;
pub mod admission;
pub mod ban;
pub mod classify;
pub mod content;

pub mod egress;
pub mod epoch;
pub mod family;
pub mod flow;

pub mod hold;
pub mod on_link;
pub mod oracle;
pub mod outcome;
pub mod packet;
pub mod parse;
pub mod proof;
#[cfg(test)]
mod properties;
pub mod sample;
pub mod shield;
pub mod sketch;
pub mod syn;
pub mod tally;
pub mod translator;
pub mod used;
pub mod wakeup;
pub mod wire;

use outcome::{Exit, Flow, Outcome, Probe, ProbeClass, Service};
use packet::Packet;
use parse::{
    Unread,
    deep::{self, Deep},
};

/// Parses and classifies one frame, as far as that is possible without asking for sockets.
#[inline(always)]
pub fn inspect<P: Packet>(packet: &P) -> Outcome {
    inspect_shallow(packet).unwrap_or_else(|| {
        let mut deep = Deep::EMPTY;
        match deep::find(packet, &mut deep, deep::link, deep::follow) {
            Ok(()) => inspect_deep(&deep),
            Err(exit) => Outcome::Exit(exit),
        }
    })
}

/// As [`inspect`]. Gives nothing where the transport header lies deeper than the code looks in place.
#[inline(always)]
pub fn inspect_shallow<P: Packet>(packet: &P) -> Option<Outcome> {
    match parse::parse(packet) {
        Ok(headers) => match classify::classify(packet, &headers) {
            // The first buffer ends before the transport header does.
            Outcome::Exit(Exit::TruncatedIp) => None,
            outcome => Some(outcome),
        },
        Err(Unread::Exit(exit)) => Some(Outcome::Exit(exit)),
        Err(Unread::Deeper) => None,
    }
}

/// As [`inspect`], for a frame for which [`inspect_shallow`] gives nothing and [`deep::find`] found these headers.
#[inline(always)]
pub fn inspect_deep(deep: &Deep) -> Outcome {
    if let Some(headers) = deep.headers() {
        return classify::classify(deep, &headers);
    }
    let Some((source, destination)) = deep.addresses() else {
        return Outcome::Exit(Exit::TruncatedIp);
    };
    let flow = Flow { source, destination, service: Service::default(), source_port: 0, reserved: 0 };
    Outcome::Probe(Probe { class: ProbeClass::HeaderChain, flow })
}
