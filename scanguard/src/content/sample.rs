//! A part of a payload that the kernel program copied.

use scanguard_common::{address::Address, content::Begins};

use super::Service;

/// The first bytes of a payload, and where they were seen. They may end anywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sample<B> {
    /// The client, also for an answer. An IPv6 client stands for its prefix.
    pub source: Address,
    /// The service of this host that received or sent it.
    pub service: Service,
    /// The client's port, in host byte order.
    pub client_port: u16,
    /// The kind of message that it begins like. This also tells whether the client or the service sent it.
    pub begins: Begins,
    /// Whether a socket of this host owns the connection, so that no other host can have sent it.
    pub owned: bool,
    /// Where the whole payload lies in the stream of its connection.
    pub place: Place,
    /// The bytes: `Vec<u8>` or `&[u8]`.
    pub bytes: B,
}

/// Where a payload lies in the stream of bytes that one side of a connection sends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// How many bytes precede it, if the sample is owned; else the sequence number of its segment.
    pub position: u64,
    /// Length of the whole payload in bytes: a sample has only its beginning.
    pub len: u32,
    /// Whether the payload ends with an empty line, as the head of a request does.
    pub ends_head: bool,
}
