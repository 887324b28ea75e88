//! Parses samples of payloads into content events.

use scanguard_common::{content::Begins, wire::protocol};

use super::{ContentEvent, Proof, Said, Service, dns, http, sample::Sample, tls};

/// The events of a sample: several if requests are pipelined, none if it has no meaning.
///
/// The program that took the sample has found out its kind, from its ports and its beginning.
pub fn parse<B: AsRef<[u8]>>(sample: &Sample<B>) -> Vec<ContentEvent> {
    let Sample { source, service, client_port, begins, owned, bytes } = sample;
    let proof = if *owned { Proof::Connection } else { Proof::None };
    let client_port = Some(*client_port);
    let event = |said| ContentEvent { source: *source, service: service.clone(), client_port, proof, said };
    said(service, *begins, bytes.as_ref()).into_iter().map(event).collect()
}

fn said(service: &Service, begins: Begins, bytes: &[u8]) -> Vec<Said> {
    let protocol = match service {
        Service::Endpoint { protocol, .. } => *protocol,
        // Logs are read line by line, see `logs`.
        Service::Log => return Vec::new(),
    };
    match begins {
        Begins::Request => http::requests(bytes),
        Begins::Hello => vec![tls::hello(bytes).map_or_else(Said::Junk, Said::Hello)],
        Begins::Status => http::status(bytes).into_iter().collect(),
        Begins::Query | Begins::Answer if protocol == protocol::TCP => dns::segment(bytes, begins),
        Begins::Query | Begins::Answer => dns::datagram(bytes, begins),
    }
}

#[cfg(test)]
mod tests;
