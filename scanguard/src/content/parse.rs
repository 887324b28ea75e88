//! Parses samples of payloads.

use scanguard_common::{content::Begins, wire::protocol};

use super::{
    Said, Service, dns, greeting,
    http::{self, End},
    sample::Sample,
    tls,
};

/// What a sample says.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The messages: several if requests are pipelined, none if it has no meaning.
    pub(super) said: Vec<Said>,
    /// How a payload with requests ends.
    pub(super) end: End,
}

/// Parses a sample. The program that took it has found out its kind, from its ports and its beginning.
pub(super) fn parse<B: AsRef<[u8]>>(sample: &Sample<B>) -> Parsed {
    let Sample { service, begins, bytes, place, .. } = sample;
    let bytes = bytes.as_ref();
    let (ip, protocol) = match service {
        Service::Endpoint { ip, protocol, .. } => (*ip, *protocol),
        // Logs are read line by line, see `logs`.
        Service::Log => return Parsed { said: Vec::new(), end: End::Open },
    };
    let said = match begins {
        Begins::Request => {
            let (said, end) = http::requests(bytes, *place);
            return Parsed { said, end };
        }
        Begins::Hello => vec![tls::hello(bytes).map_or_else(Said::Junk, Said::Hello)],
        Begins::Status => http::status(bytes).into_iter().collect(),
        Begins::Query | Begins::Answer if protocol == protocol::TCP => dns::segment(bytes, *begins),
        Begins::Query | Begins::Answer => dns::datagram(bytes, *begins),
        Begins::Greeting => {
            // Where it lies in its stream is known only if the connection proves it.
            let position = if sample.owned { place.position } else { 0 };
            greeting::read(bytes, protocol, ip, position).map(Said::Greeting).into_iter().collect()
        }
    };
    Parsed { said, end: End::Open }
}

#[cfg(test)]
mod tests;
