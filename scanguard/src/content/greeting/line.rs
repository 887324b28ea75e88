//! Protocols whose requests are lines of text: `METHOD target PROTOCOL/version`, and commands.

use super::{Greeting, Language, Manner, sip};

/// The first words of a stream.
pub(super) fn segment(bytes: &[u8]) -> Option<Greeting> {
    // A record of TLS with a hello; its kind was looked at by the program.
    if bytes.starts_with(&[22, 3]) {
        return Some(Greeting::plain(Language::Tls));
    }
    Some(request(bytes).unwrap_or(Greeting::plain(Language::Text)))
}

/// The first words of a datagram.
pub(super) fn datagram(bytes: &[u8]) -> Option<Greeting> {
    request(bytes)
}

fn request(bytes: &[u8]) -> Option<Greeting> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = str::from_utf8(&bytes[..end]).ok()?;
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let method = words.next()?;
    let target = words.next()?;
    let version = words.next_back().unwrap_or_default();
    match (method, version.split('/').next().unwrap_or_default()) {
        ("M-SEARCH", "HTTP") => Some(Greeting::of(Language::Ssdp, Manner::Odd)),
        // A device announces itself by it.
        ("NOTIFY", "HTTP") => None,
        (_, "HTTP") => Some(Greeting::plain(Language::Http)),
        (_, "RTSP") => Some(Greeting::plain(Language::Rtsp)),
        (_, "SIP") => Some(sip::read(method, target, &bytes[end..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_first_line_tells_the_protocol() {
        let language = |text: &str| segment(text.as_bytes()).map(|said| said.language);
        for (text, expected) in [
            ("GET / HTTP/1.0\r\n\r\n", Language::Http),
            ("OPTIONS / RTSP/1.0\r\n\r\n", Language::Rtsp),
            ("OPTIONS sip:nm SIP/2.0\r\n", Language::Sip),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Language::Http),
            ("\r\n\r\n", Language::Text),
            ("HELP\r\n", Language::Text),
            ("EHLO there\r\n", Language::Text),
        ] {
            assert_eq!(language(text), Some(expected), "{text:?}");
        }
        assert_eq!(segment(b"\x16\x03\x01\0\x05").map(|said| said.language), Some(Language::Tls));
    }

    #[test]
    fn a_search_is_odd_and_an_announcement_says_nothing() {
        let search = datagram(b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n");
        assert_eq!(search, Some(Greeting::of(Language::Ssdp, Manner::Odd)));
        assert_eq!(datagram(b"NOTIFY * HTTP/1.1\r\n\r\n"), None);
        assert_eq!(datagram(b"\r\n\r\n"), None, "what keeps a way through NAT open");
    }
}
