//! The contents of clients' messages: requests, hellos and queries, in the form that the rules need. Pure data.
//!
//! They come from the wire (the kernel program samples the beginnings of payloads) and from access logs. Both become a
//! [`ContentEvent`], so that the same rules apply. It never has queries, cookies and bodies.

pub mod attacks;
pub mod burst;
mod credit;
mod dns;
mod extension;
pub mod greeting;
mod http;
mod identifier;
mod ja4;
pub mod lists;
pub mod metrics;
pub mod names;
mod parameters;
mod parse;
mod reverse;
pub mod salt;
pub mod sample;
pub mod sampling;
mod sender;
mod sensitive;
mod sent;
mod served;
pub mod services;
pub mod settings;
mod stats;
pub mod streams;
pub mod summary;
pub mod target;
mod text;
mod tls;
mod tools;
pub mod tracker;
mod url;
mod words;

use std::net::IpAddr;

use scanguard_common::{address::Address, numbered};

pub use self::stats::{ContentStats, Dns, Tls, Web};
pub use self::{
    sender::{Sender, Shown},
    sensitive::{By, Kind, Sensitive},
    words::Words,
};

/// Of what pages of this very host sent the client to, so many count as one thing that it asked for by itself.
const OWN_WEIGHT: u64 = 4;

/// A message of a client, or an answer to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentEvent {
    /// The client, also for an answer. An IPv6 client stands for its prefix.
    pub source: Address,
    /// The service that the client talked to.
    pub service: Service,
    /// The client's port, by which an answer finds its request. An access log has no port, and needs none.
    pub client_port: Option<u16>,
    /// How it is known that the client sent it. An answer has the proof of its request.
    pub proof: Proof,
    /// The message.
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
    /// An access log names none: it stands for the server that wrote it.
    Log,
}

/// How it is known that the accused source did something. Proven and unproven activity have two separate accounts,
/// which are never added.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Proof {
    /// Anybody could have written this address into the packet.
    None,
    /// It happened within a connection: the kernel's TCP established it, the numbers of the segment fit its socket, or
    /// the server logged the request. No other host can have done it.
    Connection,
}

/// The contents of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// An HTTP request.
    Request(Request),
    /// The status of an HTTP response. Logs give it together with the request.
    Status(u16),
    /// A TLS ClientHello.
    Hello(Hello),
    /// A DNS query.
    Query(Query),
    /// A DNS answer.
    Answer(Answer),
    /// The first words in another protocol.
    Greeting(greeting::Greeting),
    /// It began like one of these, but was none. This is the reason.
    Junk(Junk),
}

/// An HTTP request line and the headers that matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The method as the client wrote it.
    pub method: String,
    /// The path, decoded once, without query, fragment and session id. A long one is cut.
    pub path: String,
    /// Whether the path is cut: then nobody knows the whole path.
    pub is_cut: bool,
    /// The Host header, or the authority of an absolute target, without port and in lower case.
    pub host: Option<String>,
    /// The port of an absolute target, or that of its scheme.
    pub target_port: Option<u16>,
    /// The User-Agent header.
    pub agent: Option<String>,
    /// The Referer header's host.
    pub referer: Option<String>,
    /// Whether a page sent the client, as far as the request shows it.
    pub sender: Sender,
    /// Whether it has credentials: an Authorization header, or the name of a user in the log.
    pub has_credentials: bool,
    /// Oddities that no browser writes.
    pub oddities: Vec<Oddity>,
    /// A hash of what is odd in it: the same oddity has the same one, whatever else the request asks for.
    pub odd_part: u64,
    /// The kinds of attacks in it.
    pub attacks: attacks::Attacks,
    /// Hashes of the names of its parameters, without those that only a machine writes.
    pub parameters: Vec<u64>,
    /// The status of the response, if the same line has it (an access log).
    pub status: Option<u16>,
}

numbered! {
    /// An oddity of a request, which no browser writes.
    Oddity {
        /// A method that HTTP does not have (RFC 9110, WebDAV, and PATCH are known).
        Method = "method",
        /// HTTP/1.1 without a Host header, in a request with complete headers.
        NoHost = "no_host",
        /// An absolute target, or CONNECT. Clients write these only to a proxy. If it is refused, the client searches for
        /// an open proxy.
        Proxy = "proxy",
        /// `..` in the path, or an encoding of it.
        Traversal = "traversal",
        /// `${jndi:` and its disguises, in path, query or headers.
        Jndi = "jndi",
        /// Typical parts of SQL, scripts or commands in path or query.
        Injection = "injection",
        /// Bytes that a request line must not have.
        Binary = "binary",
    }
}

/// A TLS ClientHello.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// The server's name (SNI) in lower case.
    pub server_name: Option<String>,
    /// The JA4 fingerprint; nothing if the hello was not seen whole.
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

/// A DNS answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The response code; 3 is NXDOMAIN (RFC 6895, 2.3).
    pub code: u16,
    /// The requested name, in lower case and without the last dot.
    pub name: String,
    /// The zone that has no such name, by the SOA record of a negative answer (RFC 2308); it may be cut off.
    pub zone: Option<String>,
    /// Whether all its addresses are in 127.0.0.0/8: a blocklist lists the name (RFC 5782, 2.3).
    pub is_listing: bool,
}

/// Why a message is no request, hello or query.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Junk {
    /// It breaks the protocol's syntax.
    Syntax,
    /// It ends too early to tell anything about it.
    Cut,
}
