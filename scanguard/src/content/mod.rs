//! What clients say: requests, hellos and queries, as the rules look at them. Pure data.
//!
//! It comes from the wire (the kernel program samples the beginnings of payloads) and from access logs; both end up as
//! an [`Utterance`], so that the same rules apply. Queries, cookies and bodies are never in it.

mod dns;
mod extension;
pub mod haste;
mod heard;
mod http;
mod ja4;
pub mod lists;
pub mod metrics;
pub mod names;
pub mod parse;
pub mod salt;
pub mod sample;
pub mod sampling;
pub mod settings;
pub mod summary;
pub mod target;
mod text;
mod tls;
pub mod visitors;

use std::net::IpAddr;

use scanguard_common::{address::Address, numbered};

pub use self::heard::{Dns, Heard, Tls, Web};

/// Something that a client said, or that it was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Utterance {
    /// The client, also where it is an answer; an IPv6 client stands for its prefix.
    pub source: Address,
    /// Where it was said.
    pub service: Service,
    /// The client's port, by which an answer finds the request that it answers; an access log has none, and needs none.
    pub client_port: Option<u16>,
    /// How it is known that the client said it. That of an answer is that of what it answers.
    pub proof: Proof,
    /// What was said.
    pub said: Said,
}

/// A service of this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Service {
    /// The address and port that the packet went to.
    Endpoint {
        /// Address.
        ip: IpAddr,
        /// Port.
        port: u16,
        /// IP protocol number: TCP or UDP.
        protocol: u8,
    },
    /// An access log names none: the server that wrote it.
    Log,
}

/// How it is known that something was done by the source that it is held against. What is proven and what is not are two
/// accounts, which are never added.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Proof {
    /// Anybody could have written the address into the packet.
    None,
    /// It happened within a connection: the kernel's TCP established it, the numbers of the segment fit its socket, or the
    /// server logged the request. Nobody else can have done it.
    Connection,
}

/// What was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// An HTTP request.
    Request(Request),
    /// The status that an HTTP request was answered with. Logs give it with the request.
    Status(u16),
    /// A TLS ClientHello.
    Hello(Hello),
    /// A DNS query.
    Query(Query),
    /// The response code of a DNS answer, with the name that it answers.
    Answer {
        /// The response code; 3 is NXDOMAIN (RFC 6895, 2.3).
        code: u16,
        /// The name that was asked for, in lower case and without the last dot.
        name: String,
    },
    /// It began like one of these, but was none: why.
    Junk(Junk),
}

/// An HTTP request line and the headers that matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The method as it was written.
    pub method: String,
    /// The path, decoded once, without query, fragment and session id; its beginning if it is long.
    pub path: String,
    /// Whether the path goes on beyond what was seen: then it is not known which one it is.
    pub is_cut: bool,
    /// Whether a body follows that was not seen to its end: what comes next on the connection may be more of it.
    pub is_open: bool,
    /// The Host header, or the authority of an absolute target, without port and in lower case.
    pub host: Option<String>,
    /// The User-Agent header.
    pub agent: Option<String>,
    /// The Referer header's host.
    pub referer: Option<String>,
    /// What no browser writes.
    pub oddities: Vec<Oddity>,
    /// The status that it was answered with, where the same place says so (an access log).
    pub status: Option<u16>,
}

numbered! {
    /// Something in a request that no browser writes.
    Oddity {
        /// A method that HTTP has not (RFC 9110, WebDAV, and PATCH are known).
        Method = "method",
        /// HTTP/1.1 without a Host header, in a request whose headers were seen whole.
        NoHost = "no_host",
        /// An absolute target, or CONNECT, which clients write to a proxy only: where it is refused, an open one is looked for.
        Proxy = "proxy",
        /// `..` in the path, or an encoding of it.
        Traversal = "traversal",
        /// `${jndi:` and its disguises, in path, query or headers.
        Jndi = "jndi",
        /// Tell-tale parts of SQL, scripts or commands in path or query.
        Injection = "injection",
        /// Bytes that may not be in a request line.
        Binary = "binary",
    }
}

/// A TLS ClientHello.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// The server's name (SNI) in lower case.
    pub server_name: Option<String>,
    /// The JA4 fingerprint; none where the hello was not seen whole.
    pub ja4: Option<String>,
}

/// A DNS query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// The name in lower case, without the last dot.
    pub name: String,
    /// The type's number (A is 1, ANY 255, AXFR 252).
    pub kind: u16,
    /// The class's number (IN is 1, CHAOS 3).
    pub class: u16,
}

/// Why something was no request, hello or query.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Junk {
    /// It breaks the protocol's syntax.
    Syntax,
    /// It ends before anything can be said of it.
    Cut,
}
