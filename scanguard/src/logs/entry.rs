//! What a line of an access log says, whatever its format.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::content::{Junk, Said, target};

/// A line, understood.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    /// Who was connected to the server: the client, or a proxy in front of the server.
    pub(super) peer: Peer,
    /// The X-Forwarded-For header, if the format has it.
    pub(super) forwarded: Option<String>,
    /// When it was, if the log says it.
    pub(super) time: Option<Timestamp>,
    /// What was asked for.
    pub(super) said: Said,
}

/// Who was connected.
#[derive(Debug, PartialEq)]
pub(super) enum Peer {
    /// This address.
    Address(IpAddr),
    /// Whoever the server took for a proxy that it trusts: it logged the proxy's X-Forwarded-For in its place.
    Proxy,
}

/// Why a line is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unparsed {
    /// It has not the form of this format.
    Syntax,
    /// It has, but where the client's address should be there is something else, such as a name.
    Address,
}

/// What a line says of the request itself.
#[derive(Default)]
pub(super) struct Words<'l> {
    pub(super) method: &'l str,
    pub(super) target: &'l str,
    pub(super) host: Option<&'l str>,
    pub(super) agent: Option<&'l str>,
    pub(super) referer: Option<&'l str>,
    pub(super) status: Option<u16>,
}

impl Words<'_> {
    /// Looks at it.
    pub(super) fn examine(self) -> Said {
        let request = target::examine(self.method, self.target, self.host, self.agent, self.referer);
        Said::Request(crate::content::Request { status: self.status, ..request })
    }

    /// The same, with method and target out of a request line as it was sent: `GET / HTTP/1.1`, or without a version.
    pub(super) fn examine_line(self, line: &str) -> Said {
        if line.is_empty() || line == "-" {
            return Said::Junk(Junk::Cut);
        }
        let Some((method, rest)) = line.split_once(' ') else {
            return Said::Junk(Junk::Syntax);
        };
        // A target may have blanks in it, though it must not.
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

/// An address as logs have it: alone, with a port, in brackets, with a zone.
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
