//! What the kernel program copied of a payload.

use scanguard_common::{address::Address, content::Begins};

use super::Service;

/// The first bytes of a payload, and where they were seen. They may end anywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sample<B> {
    /// The client, also where it is an answer; an IPv6 client stands for its prefix.
    pub source: Address,
    /// The service of this host that it was said to, or by.
    pub service: Service,
    /// The client's port, in host byte order.
    pub client_port: u16,
    /// What it begins like, which also says who said it.
    pub begins: Begins,
    /// Whether a socket of this host owns the connection, so that nobody else can have written it.
    pub owned: bool,
    /// The bytes: `Vec<u8>` or `&[u8]`.
    pub bytes: B,
}
