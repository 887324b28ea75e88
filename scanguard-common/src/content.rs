//! What payloads begin like: which are sampled, and how much of them.
//!
//! Nothing is known here of the segments before, so that every request of a connection is seen and not only its first;
//! what begins in the middle of a segment is not. What is sampled looks like the beginning of something: whether it is
//! that, the agent's parsers say.

use crate::{
    outcome::{Flow, Service, numbered},
    packet::Packet,
    parse::{self, Fragment},
    wire::{Tcp, Udp, protocol},
};

numbered! {
    /// What a payload begins like.
    Begins[BEGINNINGS] {
        /// An HTTP request.
        Request = "http_request",
        /// A TLS ClientHello.
        Hello = "tls_hello",
        /// A DNS query.
        Query = "dns_query",
        /// The status line of an HTTP/1 response.
        Status = "http_status",
        /// A DNS response.
        Answer = "dns_answer",
    }
}

impl Begins {
    /// The one of this number.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// Whether this host says it, rather than a client.
    #[inline(always)]
    pub const fn is_answer(self) -> bool {
        match self {
            Self::Request | Self::Hello | Self::Query => false,
            Self::Status | Self::Answer => true,
        }
    }

    /// Bytes that are taken at most.
    #[inline(always)]
    pub const fn limit(self) -> usize {
        match self {
            // Request line and the first headers; what browsers add beyond are cookies.
            Self::Request => 512,
            // Larger than any that fits into a segment of Ethernet; merged segments may have more.
            Self::Hello => MAX_SAMPLE,
            // The longest name takes 255 bytes (RFC 1035, 2.3.4), before it lie 12 of the header (14 over TCP), behind it 4.
            Self::Query | Self::Answer => 300,
            // `HTTP/1.1 404 ` and some of the reason.
            Self::Status => 32,
        }
    }
}

/// Bytes of the longest sample.
pub const MAX_SAMPLE: usize = 2_048;

/// Bytes by which it is told what a payload begins like.
pub const HEAD: usize = 32;

/// The beginning of a payload, filled up with zeros.
pub type Head = [u8; HEAD];

/// The first bytes of a payload: of one alone the verifier does not understand the bounds check.
pub type Start = [u8; 2];

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP or TLS: the payload says which.
    Web,
    /// DNS.
    Dns,
}

/// Where the payload of a whole segment or datagram lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload {
    /// From where to where, as the packet goes.
    pub flow: Flow,
    /// Offset in the frame.
    pub offset: usize,
    /// Bytes, by the lengths that the headers give.
    pub len: usize,
}

/// Finds the payload of TCP and UDP; none of fragments.
#[inline(always)]
pub fn payload<P: Packet>(packet: &P) -> Option<Payload> {
    let headers = parse::parse(packet).ok()?;
    if !matches!(headers.fragment, Fragment::Whole) {
        return None;
    }
    let (source_port, port, header_len) = match headers.protocol {
        protocol::TCP => {
            let header = packet.view::<Tcp>(headers.transport)?;
            (header.source, header.destination, header.header_len())
        }
        protocol::UDP => {
            let header = packet.view::<Udp>(headers.transport)?;
            (header.source, header.destination, size_of::<Udp>())
        }
        _ => return None,
    };
    if headers.transport_len <= header_len {
        return None;
    }
    let (source, destination) = headers.addresses(packet)?;
    let service = Service { protocol: headers.protocol, port: port.get() };
    Some(Payload {
        flow: Flow { source, destination, service, source_port: source_port.get(), reserved: 0 },
        offset: headers.transport + header_len,
        len: headers.transport_len - header_len,
    })
}

/// What is spoken at a port, by the sets of ports.
#[inline(always)]
pub fn speaks(
    protocol: u8,
    port: u16,
    is_tcp: impl Fn(u16) -> bool,
    is_dns: impl Fn(u16) -> bool,
) -> Option<Speaks> {
    match protocol {
        protocol::TCP if !is_tcp(port) => None,
        protocol::TCP | protocol::UDP if is_dns(port) => Some(Speaks::Dns),
        protocol::TCP => Some(Speaks::Web),
        _ => None,
    }
}

/// Whether what a client says at such a port is worth a closer look, by its first two bytes: what TLS encrypts, and most
/// of what is uploaded, is not.
#[inline(always)]
pub fn may_begin(speaks: Speaks, start: &Start) -> bool {
    match speaks {
        Speaks::Web => start[0] == HANDSHAKE || is_token(start[0]),
        Speaks::Dns => true,
    }
}

/// What a payload of this length begins like that is said by a client, or by this host (`is_answer`).
#[inline(always)]
pub fn begins(speaks: Speaks, protocol: u8, is_answer: bool, head: &Head, len: usize) -> Option<Begins> {
    match (speaks, is_answer) {
        (Speaks::Web, false) if is_hello(head) => Some(Begins::Hello),
        (Speaks::Web, false) if is_request(head) => Some(Begins::Request),
        (Speaks::Web, true) if is_status(head) => Some(Begins::Status),
        (Speaks::Web, _) => None,
        (Speaks::Dns, _) => {
            let begins = if is_answer { Begins::Answer } else { Begins::Query };
            is_dns(head, len, protocol == protocol::TCP, is_answer).then_some(begins)
        }
    }
}

/// Content type of a TLS record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Type of a handshake message (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;

/// A record of a handshake, of version 3.x, that begins with a ClientHello.
#[inline(always)]
fn is_hello(head: &Head) -> bool {
    head[0] == HANDSHAKE && head[1] == 3 && head[2] <= 4 && head[5] == CLIENT_HELLO
}

/// Bytes of the longest method that is looked for: UPDATEREDIRECTREF (RFC 4437) has 17, scanners make longer ones up.
const MAX_METHOD: usize = 20;

/// A method, a space and what may be a target.
///
/// Three capitals or more may be followed by anything visible, since requests are sampled that no browser writes. Whatever
/// else could be a method (`get`, `M-SEARCH`, `X`) must be followed by a path: so begin words of uploaded text, too.
#[inline(always)]
fn is_request(head: &Head) -> bool {
    let mut is_plain = true;
    for (place, byte) in head.iter().enumerate().take(MAX_METHOD + 1) {
        match *byte {
            b'A'..=b'Z' => {}
            b' ' => {
                // Within the head, as the method is shorter: the bound is for those who cannot follow.
                let Some(target) = head.get(place + 1) else {
                    return false;
                };
                return match target {
                    b'/' => place > 0,
                    _ => is_plain && place >= 3 && *target > b' ' && *target != 0x7f,
                };
            }
            byte if is_token(byte) => is_plain = false,
            _ => return false,
        }
    }
    false
}

/// What methods are made of; of the marks that RFC 9110 (5.6.2) would allow, those that registered methods use.
#[inline(always)]
const fn is_token(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// `HTTP/1.x NNN` (RFC 9112, 4).
#[inline(always)]
fn is_status(head: &Head) -> bool {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', a, b, c, ..] = head else {
        return false;
    };
    minor.is_ascii_digit() && a.is_ascii_digit() && b.is_ascii_digit() && c.is_ascii_digit()
}

/// Bytes of a DNS header (RFC 1035, 4.1.1).
const DNS_HEADER: usize = 12;
/// The bit of the third byte that tells responses from queries.
const RESPONSE: u8 = 0x80;
/// Bytes of the shortest question: the root, a type and a class.
const DNS_QUESTION: usize = 5;

/// A message with one question (RFC 9619), of that direction; over TCP behind its length (RFC 1035, 4.2.2).
#[inline(always)]
fn is_dns(head: &Head, len: usize, is_tcp: bool, is_answer: bool) -> bool {
    const SHORTEST: usize = DNS_HEADER + DNS_QUESTION;
    let (flags, questions, message_len) = if is_tcp {
        (head[4], [head[6], head[7]], usize::from(u16::from_be_bytes([head[0], head[1]])))
    } else {
        (head[2], [head[4], head[5]], len)
    };
    let is_long_enough = message_len >= SHORTEST && len >= SHORTEST;
    is_long_enough && questions == [0, 1] && (flags & RESPONSE != 0) == is_answer
}

#[cfg(test)]
mod tests;
