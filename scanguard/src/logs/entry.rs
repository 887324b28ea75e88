//! The contents of a line of an access log, whatever its format.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::content::{
    Junk, Said, Shown,
    target::{self, Headers},
};

/// The contents of a line.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    /// The peer of the server's connection: the client, or a proxy in front of the server.
    pub(super) peer: Peer,
    /// The X-Forwarded-For header, if the format has it.
    pub(super) forwarded: Option<String>,
    /// The time of the request, if the log has it.
    pub(super) time: Option<Timestamp>,
    /// The request.
    pub(super) said: Said,
}

/// The peer of a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Peer {
    /// This address.
    Address(IpAddr),
    /// A proxy that the server trusts: in place of its address, the server logged the X-Forwarded-For header.
    Proxy,
}

/// Why a line could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unparsed {
    /// It does not have the form of this format.
    Syntax,
    /// It has that form, but there is something else in place of the client's address, such as a name.
    Address,
}

/// The parts of a line about the request itself.
#[derive(Default)]
pub(super) struct Words<'l> {
    pub(super) method: &'l str,
    pub(super) target: &'l str,
    pub(super) host: Option<&'l str>,
    pub(super) agent: Option<&'l str>,
    pub(super) referer: Option<&'l str>,
    pub(super) status: Option<u16>,
    /// Whether the log has the name of a user.
    pub(super) has_user: bool,
}

impl Words<'_> {
    /// Makes an event of the request.
    pub(super) fn examine(self) -> Said {
        let Self { host, agent, has_user, .. } = self;
        let shown = Shown { referer: self.referer, ..Shown::default() };
        let headers = Headers { host, agent, shown, has_credentials: has_user, looking_up: None };
        let request = target::examine(self.method, self.target, &headers);
        Said::Request(crate::content::Request { status: self.status, ..request })
    }

    /// The same, with method and target from a request line as it was sent: `GET / HTTP/1.1`, or without a version.
    pub(super) fn examine_line(self, line: &str) -> Said {
        if line.is_empty() || line == "-" {
            return Said::Junk(Junk::Cut);
        }
        let Some((method, rest)) = line.split_once(' ') else {
            return Said::Junk(Junk::Syntax);
        };
        // A target may contain blanks, though this is forbidden.
        let target = match rest.rsplit_once(' ') {
            Some((target, version)) if version.starts_with("HTTP/") => target,
            _ => rest,
        };
        if method.chars().any(|char| char.is_control() || char == char::REPLACEMENT_CHARACTER) {
            return Said::Junk(Junk::Syntax);
        }
        Words { method, target, ..self }.examine()
    }
}

/// An address in any form of the logs: alone, with a port, in brackets, with a zone.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.split('%').next().unwrap_or_default();
    let ip =
        bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Oddity;

    #[test]
    fn addresses_are_read_in_every_form() {
        let rows = [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7 ", Some("192.0.2.7")),
            ("192.0.2.7:4711", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("[2001:db8::7]:4711", Some("2001:db8::7")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("host.example", None),
            ("unknown", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(address(text), expected.map(|ip| ip.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn request_lines_are_taken_apart() {
        let rows = [
            ("GET / HTTP/1.1", "GET", "/"),
            ("GET /old", "GET", "/old"),
            ("GET /a b HTTP/1.1", "GET", "/a b"),
            ("GET / FTP/1.1", "GET", "/ FTP/1.1"),
        ];
        for (line, method, path) in rows {
            match Words::default().examine_line(line) {
                Said::Request(request) => assert_eq!((&*request.method, &*request.path), (method, path)),
                other => panic!("{line}: {other:?}"),
            }
        }
        for (line, junk) in
            [("", Junk::Cut), ("-", Junk::Cut), ("x", Junk::Syntax), ("\u{16}\u{3} x", Junk::Syntax)]
        {
            assert_eq!(Words::default().examine_line(line), Said::Junk(junk), "{line}");
        }
        match Words::default().examine_line("GET /\u{fffd} HTTP/1.1") {
            Said::Request(request) => assert_eq!(request.oddities, [Oddity::Binary]),
            other => panic!("{other:?}"),
        }
    }
}
