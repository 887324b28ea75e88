//! The first words of clients in the protocols of services other than HTTP, TLS and DNS.
//!
//! One sample shows which protocol it is, and what scanners give away in it: the names and options that they try, the
//! name of their software, and requests that only tools send. Each protocol has its own parser in this folder.

mod coap;
mod ike;
mod line;
mod memcached;
mod netbios;
mod ntp;
mod quic;
mod rdp;
mod reader;
mod redis;
mod sip;
mod smb;
mod snmp;
mod ssh;

use std::net::IpAddr;

use scanguard_common::{numbered, wire::protocol};

numbered! {
    /// A protocol of a service.
    Language[LANGUAGES] {
        /// SSH (RFC 4253).
        Ssh = "ssh",
        /// SNMP (RFC 1157, RFC 3412).
        Snmp = "snmp",
        /// SIP (RFC 3261).
        Sip = "sip",
        /// The key exchange of IPsec (RFC 2408, RFC 7296).
        Ike = "ike",
        /// The name service of NetBIOS (RFC 1002).
        Netbios = "netbios",
        /// NTP, except for asking the time (RFC 5905, RFC 9327).
        Ntp = "ntp",
        /// The search of UPnP.
        Ssdp = "ssdp",
        /// memcached.
        Memcached = "memcached",
        /// CoAP (RFC 7252).
        Coap = "coap",
        /// The remote desktop: a connection request of X.224.
        Rdp = "rdp",
        /// SMB.
        Smb = "smb",
        /// Redis.
        Redis = "redis",
        /// QUIC (RFC 9000).
        Quic = "quic",
        /// HTTP.
        Http = "http",
        /// RTSP (RFC 7826).
        Rtsp = "rtsp",
        /// TLS.
        Tls = "tls",
        /// Lines of text that several protocols have.
        Text = "text",
    }
}

/// How a client says it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Manner {
    /// As honest clients do.
    #[default]
    Ordinary,
    /// As tools of administrators and scanners do, and few others.
    Odd,
    /// As only tools do that look for what is there.
    Probe,
}

/// Something that a client may try many of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Tried {
    /// A community of SNMP, which is its password.
    Community,
    /// A user of SIP, without credentials.
    User,
    /// A user of SIP with credentials: the service has asked for them.
    KnownUser,
    /// A set of algorithms of SSH.
    Algorithms,
    /// The same with a single key exchange. Programs offer several, to be served everywhere.
    SingleExchange,
    /// A proposal of IKE.
    Proposal,
}

/// The first words of a client. What they try ends in the tracker, which keeps a hash of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Greeting {
    /// The protocol.
    pub language: Language,
    /// Whether honest clients say the same.
    pub manner: Manner,
    /// The kind of thing that it tries, and the bytes of it.
    pub tried: Option<(Tried, Vec<u8>)>,
    /// The name that the software gives itself.
    pub client: Option<String>,
}

impl Greeting {
    /// Nothing but its protocol.
    const fn plain(language: Language) -> Self {
        Self::of(language, Manner::Ordinary)
    }

    /// Nothing but its protocol and manner.
    const fn of(language: Language, manner: Manner) -> Self {
        Self { language, manner, tried: None, client: None }
    }
}

/// The protocol that belongs to a port, of those that are read here.
pub(super) const fn at_home(transport: u8, port: u16) -> Option<Language> {
    let is_tcp = transport == protocol::TCP;
    Some(match port {
        22 if is_tcp => Language::Ssh,
        123 if !is_tcp => Language::Ntp,
        137 if !is_tcp => Language::Netbios,
        161 if !is_tcp => Language::Snmp,
        443 if !is_tcp => Language::Quic,
        445 if is_tcp => Language::Smb,
        500 | 4500 if !is_tcp => Language::Ike,
        1900 if !is_tcp => Language::Ssdp,
        3389 if is_tcp => Language::Rdp,
        5060 => Language::Sip,
        5683 if !is_tcp => Language::Coap,
        6379 if is_tcp => Language::Redis,
        11_211 => Language::Memcached,
        _ => return None,
    })
}

/// Whether clients of the protocol at this port never speak this one. TLS may be around any protocol, and lines of text
/// belong to Redis and memcached, too.
pub(super) fn is_foreign(language: Language, transport: u8, port: u16) -> bool {
    let Some(home) = at_home(transport, port) else { return false };
    let is_textual = matches!(home, Language::Redis | Language::Memcached | Language::Sip);
    match language {
        Language::Tls => false,
        Language::Text => !is_textual,
        other => other != home,
    }
}

/// Reads the first words of a client to this service. `position` is how many bytes of its stream precede them; 0 if
/// nobody knows.
pub(super) fn read(bytes: &[u8], transport: u8, to: IpAddr, position: u64) -> Option<Greeting> {
    if transport == protocol::TCP {
        return if position == 0 { segment(bytes) } else { ssh::algorithms(bytes) };
    }
    let readers = [snmp::read, ike::read, netbios::read, quic::read, memcached::read, ntp::read, coap::read];
    let greeting = readers.iter().find_map(|read| read(bytes)).or_else(|| line::datagram(bytes))?;
    // Everybody is asked by multicast and broadcast; that is how they are meant.
    let manner = if is_to_many(to) { Manner::Ordinary } else { greeting.manner };
    Some(Greeting { manner, ..greeting })
}

fn segment(bytes: &[u8]) -> Option<Greeting> {
    let readers = [ssh::line, ssh::algorithms, rdp::read, smb::read, redis::read];
    readers.iter().find_map(|read| read(bytes)).or_else(|| line::segment(bytes))
}

fn is_to_many(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests;
