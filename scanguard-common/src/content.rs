//! How payloads begin: which ones are sampled, and how much of them.
//!
//! This code knows nothing about earlier segments. So it sees every request of a connection and not only the first,
//! but none that begins in the middle of a segment. A sample looks like the beginning of a message; the agent's
//! parsers decide whether it is one.

mod greeting;

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
    /// The kind of a payload, by its beginning.
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
        /// The first words of a client in another protocol.
        Greeting = "greeting",
    }
}

impl Begins {
    /// The one with this number.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// Whether this host sends it, rather than a client.
    #[inline(always)]
    pub const fn is_answer(self) -> bool {
        match self {
            Self::Request | Self::Hello | Self::Query | Self::Greeting => false,
            Self::Status | Self::Answer => true,
        }
    }

    /// How many bytes are sampled at most.
    #[inline(always)]
    pub const fn limit(self) -> usize {
        match self {
            // Request line and the first headers. Browsers add cookies behind these.
            Self::Request => 512,
            // More than any hello that fits into a segment of Ethernet. Merged segments may have more.
            Self::Hello => MAX_SAMPLE,
            // The longest name takes 255 bytes (RFC 1035, 2.3.4). The header before it takes 12 (14 over TCP), and 4
            // follow.
            Self::Query | Self::Answer => 300,
            // `HTTP/1.1 404 ` and some of the reason.
            Self::Status => 32,
            // The headers of SIP up to the name of the software, or the algorithms of SSH.
            Self::Greeting => 1_024,
        }
    }

    /// How many bytes of the stream may precede it, as far as its connection proves them.
    #[inline(always)]
    pub const fn furthest(self) -> u64 {
        match self {
            Self::Greeting => greeting::FURTHEST,
            Self::Request | Self::Hello | Self::Query | Self::Status | Self::Answer => u64::MAX,
        }
    }
}

/// Length of the longest sample in bytes.
pub const MAX_SAMPLE: usize = 2_048;

/// How many bytes decide what a payload begins like.
pub const HEAD: usize = 32;

/// The beginning of a payload, padded with zeros.
pub type Head = [u8; HEAD];

/// The first bytes of a payload. There are two, since the verifier does not understand the bounds check of one.
pub type Start = [u8; 2];

numbered! {
    /// The sets of ports that the program has.
    PortSet[PORT_SETS] {
        /// All ports of TCP whose payloads are looked at.
        Tcp = "TCP_PORTS",
        /// Those of TCP for HTTP or TLS.
        Web = "WEB_PORTS",
        /// Those of TCP and UDP for DNS.
        Dns = "DNS_PORTS",
        /// All ports of UDP whose payloads are looked at.
        Udp = "UDP_PORTS",
    }
}

/// The protocols of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Speaks {
    /// HTTP or TLS. The payload tells which.
    Web = 0,
    /// DNS.
    Dns = 1,
    /// Another protocol over TCP. The payload tells which.
    Segments = 2,
    /// Another protocol over UDP. The payload tells which.
    Datagrams = 3,
}

impl Speaks {
    /// Whether answers are sampled.
    #[inline(always)]
    pub const fn has_answers(self) -> bool {
        matches!(self, Self::Web | Self::Dns)
    }
}

/// The position of the payload of a whole segment or datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload {
    /// The flow, in the direction of the packet.
    pub flow: Flow,
    /// Offset in the frame.
    pub offset: usize,
    /// Length in bytes, as given by the headers.
    pub len: usize,
    /// The numbers of its segment, 0 for a datagram.
    pub numbers: Numbers,
}

/// Finds the payload of TCP and UDP. Fragments have none here.
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

/// As [`payload`], for a frame whose headers lie deeper than [`parse::parse`] looks and were found by [`deep::find`].
#[inline(always)]
pub fn deep_payload(deep: &Deep) -> Option<Payload> {
    let payload = payload_behind(deep, &deep.headers()?)?;
    Some(Payload { offset: deep.in_frame(payload.offset), ..payload })
}

/// Finds the payload behind these headers.
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

/// The protocols of a port, from the sets of ports.
#[inline(always)]
pub fn speaks(protocol: u8, port: u16, is_in: impl Fn(PortSet, u16) -> bool) -> Option<Speaks> {
    match protocol {
        protocol::TCP if !is_in(PortSet::Tcp, port) => None,
        protocol::TCP if is_in(PortSet::Web, port) => Some(Speaks::Web),
        protocol::UDP if !is_in(PortSet::Udp, port) => None,
        protocol::TCP | protocol::UDP if is_in(PortSet::Dns, port) => Some(Speaks::Dns),
        protocol::TCP => Some(Speaks::Segments),
        protocol::UDP => Some(Speaks::Datagrams),
        _ => None,
    }
}

/// Whether a client's payload is worth a closer look, by its first two bytes. Data encrypted by TLS and most uploads
/// are not. Line ends may precede a request.
#[inline(always)]
pub fn may_begin(speaks: Speaks, start: &Start) -> bool {
    match speaks {
        Speaks::Web => match *start {
            [b'\r', b'\n'] => true,
            [b'\n', next] => is_token(next) || matches!(next, b'\r' | b'\n'),
            [first, _] => first == HANDSHAKE || is_token(first),
        },
        Speaks::Segments => greeting::may_begin(start),
        Speaks::Dns | Speaks::Datagrams => true,
    }
}

/// The kind of a payload of this length, by its beginning. It comes from a client, or from this host (`is_answer`).
#[inline(always)]
pub fn begins(speaks: Speaks, protocol: u8, is_answer: bool, head: &Head, len: usize) -> Option<Begins> {
    match (speaks, is_answer) {
        (Speaks::Dns, _) => {
            let begins = if is_answer { Begins::Answer } else { Begins::Query };
            is_dns(head, len, protocol == protocol::TCP, is_answer).then_some(begins)
        }
        (Speaks::Web, true) => is_status(head).then_some(Begins::Status),
        (Speaks::Segments | Speaks::Datagrams, true) => None,
        // One place for all of them: the verifier follows the table of requests once.
        (Speaks::Web | Speaks::Segments | Speaks::Datagrams, false) => {
            let (is_web, is_datagram) = (speaks == Speaks::Web, speaks == Speaks::Datagrams);
            let is_greeting = match speaks {
                Speaks::Segments => greeting::is_segment(head),
                Speaks::Datagrams => greeting::is_datagram(head, len),
                Speaks::Web | Speaks::Dns => false,
            };
            if is_greeting {
                return Some(Begins::Greeting);
            }
            if !is_datagram && is_hello(head) {
                return Some(if is_web { Begins::Hello } else { Begins::Greeting });
            }
            is_request(head).then_some(if is_web { Begins::Request } else { Begins::Greeting })
        }
    }
}

/// Content type of a TLS record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Type of a handshake message (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;

/// A handshake record of version 3.x that begins with a ClientHello.
#[inline(always)]
fn is_hello(head: &Head) -> bool {
    head[0] == HANDSHAKE && head[1] == 3 && head[2] <= 4 && head[5] == CLIENT_HELLO
}

/// A method, a space and a possible target, all within the head. Line ends before it and further spaces are skipped,
/// as servers do (RFC 9112, 2.2).
///
/// Anything visible may follow three capitals or more, because samples should include requests that no browser writes.
/// Other possible methods (`get`, `M-SEARCH`, `X`) must be followed by a path, because words of uploaded text begin in
/// the same way.
///
/// Line ends alone are sampled, too: servers skip them, and the agent must know how far a connection has come.
#[inline(always)]
fn is_request(head: &Head) -> bool {
    let mut state = request::START;
    for byte in head {
        state = request::next(state, *byte);
        if state >= request::YES {
            break;
        }
    }
    matches!(state, request::YES | request::BLANK)
}

/// Recognizes a request by a table. With comparisons, the verifier would follow every path through every byte.
mod request {
    use super::is_token;

    /// Nothing so far.
    pub(super) const START: u8 = 0;
    /// This many capitals.
    const ONE: u8 = 1;
    const TWO: u8 = 2;
    const THREE_OR_MORE: u8 = 3;
    /// Other characters that can be a method.
    const ODD: u8 = 4;
    /// A space behind a method that anything may follow.
    const BEFORE_TARGET: u8 = 5;
    /// A space behind a method that a path must follow.
    const BEFORE_PATH: u8 = 6;
    /// Only line ends so far.
    pub(super) const BLANK: u8 = 7;
    /// It is a request. This state does not change.
    pub(super) const YES: u8 = 8;
    /// It is no request.
    const NO: u8 = 9;

    const CONTROL: u8 = 0;
    const LINE_END: u8 = 1;
    const SPACE: u8 = 2;
    const CAPITAL: u8 = 3;
    const TOKEN: u8 = 4;
    const SLASH: u8 = 5;
    const VISIBLE: u8 = 6;
    /// The padding of a short payload, or a byte that no request has.
    const NUL: u8 = 7;

    /// The kind of a byte.
    static KINDS: [u8; 256] = {
        let mut kinds = [VISIBLE; 256];
        let mut byte = 0;
        while byte < 256 {
            kinds[byte] = match byte as u8 {
                b'\r' | b'\n' => LINE_END,
                b' ' => SPACE,
                b'/' => SLASH,
                0 => NUL,
                b'A'..=b'Z' => CAPITAL,
                token if is_token(token) => TOKEN,
                1..b' ' | 0x7f => CONTROL,
                _ => VISIBLE,
            };
            byte += 1;
        }
        kinds
    };

    /// The state after a byte of this kind: sixteen places for each state.
    static STATES: [u8; 256] = {
        let mut states = [NO; 256];
        let mut place = 0;
        while place < 256 {
            states[place] = match ((place / 16) as u8, (place % 16) as u8) {
                (START | BLANK, LINE_END) => BLANK,
                (BLANK, NUL) => YES,
                (START | BLANK, CAPITAL) => ONE,
                (ONE, CAPITAL) => TWO,
                (TWO | THREE_OR_MORE, CAPITAL) => THREE_OR_MORE,
                (START | BLANK | ONE | TWO | THREE_OR_MORE, TOKEN) | (ODD, TOKEN | CAPITAL) => ODD,
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

/// Characters of methods: of the marks that RFC 9110 (5.6.2) allows, only those that registered methods use.
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
/// The bit of the third byte that distinguishes responses from queries.
const RESPONSE: u8 = 0x80;
/// Bytes of the shortest question: the root, a type and a class.
const DNS_QUESTION: usize = 5;

/// A message with one question (RFC 9619) in this direction. Over TCP its length precedes it (RFC 1035, 4.2.2).
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
