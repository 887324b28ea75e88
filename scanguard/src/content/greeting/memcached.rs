//! memcached over UDP. It is off unless somebody turns it on: floods are made with it.

use super::{Greeting, Language, Manner};

/// Bytes of the header: number, place, count, reserved.
const HEADER: usize = 8;
/// Commands that ask about the server.
const ABOUT: [&[u8]; 2] = [b"stats", b"version"];

/// A request.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let (header, command) = bytes.split_at_checked(HEADER)?;
    if header[4..] != [0, 1, 0, 0] || !command.first()?.is_ascii_lowercase() {
        return None;
    }
    let asks = ABOUT.iter().any(|about| command.starts_with(about));
    Some(Greeting::of(Language::Memcached, if asks { Manner::Probe } else { Manner::Ordinary }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_the_server_is_a_probe() {
        let manner =
            |command: &[u8]| read(&[&[0, 1, 0, 0, 0, 1, 0, 0], command].concat()).map(|said| said.manner);
        assert_eq!(manner(b"stats\r\n"), Some(Manner::Probe));
        assert_eq!(manner(b"version\r\n"), Some(Manner::Probe));
        assert_eq!(manner(b"get key\r\n"), Some(Manner::Ordinary));
        assert_eq!(manner(b""), None);
        assert_eq!(read(b"\0\x01\0\0\0\x02\0\0get"), None, "a part of one");
    }
}
