//! What payloads begin like: which are sampled, and how much of them.
//!
//! Nothing is known here of the segments before, so that every request of a connection is seen and not only its first;
//! what begins in the middle of a segment is not. What is sampled looks like the beginning of something: whether it is
//! that, the agent's parsers say.

use crate::{
    outcome::{Flow, Service, numbered},
    packet::{MAX_OFFSET, Packet},
    parse::{
        self, Fragment, Headers, Unread,
        deep::{self, Deep},
    },
    proof::Numbers,
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
    /// The numbers of its segment; 0 for a datagram.
    pub numbers: Numbers,
}

/// Finds the payload of TCP and UDP; none of fragments.
#[inline(always)]
pub fn payload<P: Packet>(packet: &P) -> Option<Payload> {
    match parse::parse(packet) {
        Ok(headers) if headers.transport <= MAX_OFFSET => payload_behind(packet, &headers),
        Ok(_) | Err(Unread::Deeper) => {
            let mut deep = Deep::EMPTY;
            deep::find(packet, &mut deep, deep::link, deep::follow).ok()?;
            deep_payload(&deep)
        }
        Err(Unread::Exit(_)) => None,
    }
}

/// As [`payload`], where [`parse::parse`] says that the headers lie deeper and [`deep::find`] found this.
#[inline(always)]
pub fn deep_payload(deep: &Deep) -> Option<Payload> {
    let payload = payload_behind(deep, &deep.headers()?)?;
    Some(Payload { offset: deep.in_frame(payload.offset), ..payload })
}

/// The payload behind these headers.
#[inline(always)]
pub fn payload_behind<P: Packet>(packet: &P, headers: &Headers) -> Option<Payload> {
    if !matches!(headers.fragment, Fragment::Whole) {
        return None;
    }
    let (source_port, port, header_len, numbers) = match headers.protocol {
        protocol::TCP => {
            let header = packet.view::<Tcp>(headers.transport)?;
            let numbers = Numbers {
                sequence: u32::from_be_bytes(header.sequence),
                acknowledgment: u32::from_be_bytes(header.acknowledgment),
            };
            (header.source, header.destination, header.header_len(), numbers)
        }
        protocol::UDP => {
            let header = packet.view::<Udp>(headers.transport)?;
            (header.source, header.destination, size_of::<Udp>(), Numbers::default())
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
        numbers,
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
/// of what is uploaded, is not. Before a request there may be ends of lines.
#[inline(always)]
pub fn may_begin(speaks: Speaks, start: &Start) -> bool {
    match speaks {
        Speaks::Web => match *start {
            [b'\r', b'\n'] => true,
            [b'\n', next] => is_token(next) || matches!(next, b'\r' | b'\n'),
            [first, _] => first == HANDSHAKE || is_token(first),
        },
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

/// A method, a space and what may be a target, all within the head; ends of lines before it and further spaces are skipped, as
/// servers do (RFC 9112, 2.2).
///
/// Three capitals or more may be followed by anything visible, since requests are sampled that no browser writes. Whatever
/// else could be a method (`get`, `M-SEARCH`, `X`) must be followed by a path: so begin words of uploaded text, too.
#[inline(always)]
fn is_request(head: &Head) -> bool {
    let mut state = request::START;
    for byte in head {
        state = request::next(state, *byte);
        if state >= request::YES {
            break;
        }
    }
    state == request::YES
}

/// How a request is told: by a table rather than by comparisons, of which the verifier would follow every way, through every byte.
mod request {
    use super::is_token;

    /// Nothing but ends of lines.
    pub(super) const START: u8 = 0;
    /// So many capitals.
    const ONE: u8 = 1;
    const TWO: u8 = 2;
    const THREE_OR_MORE: u8 = 3;
    /// Something else that could be a method.
    const ODD: u8 = 4;
    /// A space behind a method that anything may follow.
    const BEFORE_TARGET: u8 = 5;
    /// A space behind one that a path must follow.
    const BEFORE_PATH: u8 = 6;
    /// It is one. From here on nothing changes.
    pub(super) const YES: u8 = 7;
    /// It is none.
    const NO: u8 = 8;

    const CONTROL: u8 = 0;
    const LINE_END: u8 = 1;
    const SPACE: u8 = 2;
    const CAPITAL: u8 = 3;
    const TOKEN: u8 = 4;
    const SLASH: u8 = 5;
    const VISIBLE: u8 = 6;

    /// What a byte is.
    static KINDS: [u8; 256] = {
        let mut kinds = [VISIBLE; 256];
        let mut byte = 0;
        while byte < 256 {
            kinds[byte] = match byte as u8 {
                b'\r' | b'\n' => LINE_END,
                b' ' => SPACE,
                b'/' => SLASH,
                b'A'..=b'Z' => CAPITAL,
                token if is_token(token) => TOKEN,
                0..b' ' | 0x7f => CONTROL,
                _ => VISIBLE,
            };
            byte += 1;
        }
        kinds
    };

    /// The state after a byte of a kind: sixteen places for each state.
    static STATES: [u8; 256] = {
        let mut states = [NO; 256];
        let mut place = 0;
        while place < 256 {
            states[place] = match ((place / 16) as u8, (place % 16) as u8) {
                (START, LINE_END) => START,
                (START, CAPITAL) => ONE,
                (ONE, CAPITAL) => TWO,
                (TWO | THREE_OR_MORE, CAPITAL) => THREE_OR_MORE,
                (START | ONE | TWO | THREE_OR_MORE, TOKEN) | (ODD, TOKEN | CAPITAL) => ODD,
                (THREE_OR_MORE | BEFORE_TARGET, SPACE) => BEFORE_TARGET,
                (ONE | TWO | ODD | BEFORE_PATH, SPACE) => BEFORE_PATH,
                (BEFORE_TARGET | BEFORE_PATH, SLASH) | (BEFORE_TARGET, CAPITAL | TOKEN | VISIBLE) => YES,
                _ => NO,
            };
            place += 1;
        }
        states
    };

    #[inline(always)]
    pub(super) fn next(state: u8, byte: u8) -> u8 {
        STATES[usize::from(state << 4 | KINDS[usize::from(byte)])]
    }
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
