//! Samples of payloads to what was said.

use scanguard_common::wire::protocol;

use super::{
    Junk, Proof, Said, Service, Utterance, dns, http,
    sample::{Direction, Sample},
    tls,
};

/// The port of DNS.
const DNS: u16 = 53;

/// What a sample says: several things where requests are pipelined, nothing where it says nothing.
///
/// What it is follows from how it begins. The port matters only where nothing else tells: on port 53 over TCP, what is neither
/// HTTP nor TLS is DNS.
pub fn parse<B: AsRef<[u8]>>(sample: &Sample<B>) -> Vec<Utterance> {
    let Sample { source, service, client_port, direction, owned, bytes } = sample;
    let proof = if *owned { Proof::Connection } else { Proof::None };
    let client_port = Some(*client_port);
    let utterance = |said| Utterance { source: *source, service: service.clone(), client_port, proof, said };
    said(service, *direction, bytes.as_ref()).into_iter().map(utterance).collect()
}

fn said(service: &Service, direction: Direction, bytes: &[u8]) -> Vec<Said> {
    let (port, protocol) = match service {
        Service::Endpoint { port, protocol, .. } => (*port, *protocol),
        // Logs are read line by line, see `logs`.
        Service::Log => return Vec::new(),
    };
    if protocol == protocol::UDP {
        return dns::datagram(bytes, direction);
    }
    match direction {
        Direction::Request if tls::is_handshake(bytes) => {
            vec![tls::hello(bytes).map_or_else(Said::Junk, Said::Hello)]
        }
        Direction::Request if http::is_request(bytes) => http::requests(bytes),
        Direction::Answer if http::is_answer(bytes) => http::status(bytes).into_iter().collect(),
        Direction::Request | Direction::Answer if port == DNS => dns::segment(bytes, direction),
        Direction::Request => vec![Said::Junk(Junk::Syntax)],
        // What servers say otherwise is their affair.
        Direction::Answer => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
