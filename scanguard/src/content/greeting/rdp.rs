//! The remote desktop: a connection request of X.224 ([MS-RDPBCGR], 2.2.1.1), and the cookie in it.

use super::{Greeting, Language};

/// Where the cookie begins: TPKT, length, kind, two references, class.
const COOKIE: usize = 11;
/// The longest name in a cookie that is looked at.
const MAX_NAME: usize = 64;

/// A connection request.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let [3, 0, _, _, _, 0xe0, ..] = bytes else { return None };
    let cookie = bytes.get(COOKIE..).unwrap_or_default();
    let name = cookie.strip_prefix(b"Cookie: ").map(|rest| {
        let end = rest.iter().take(MAX_NAME).take_while(|byte| !matches!(byte, b'\r' | b'\n')).count();
        String::from_utf8_lossy(&rest[..end]).into_owned()
    });
    Some(Greeting { client: name, ..Greeting::plain(Language::Rdp) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_stands_for_the_name_of_the_client() {
        let client = |cookie: &[u8]| {
            read(&[b"\x03\0\0\x2a\x25\xe0\0\0\0\0\0", cookie].concat()).map(|said| said.client)
        };
        assert_eq!(client(b"Cookie: mstshash=nmap\r\n\x01\0\x08\0"), Some(Some("mstshash=nmap".to_owned())));
        assert_eq!(client(b"\x01\0\x08\0\x03\0\0\0"), Some(None));
        assert_eq!(client(b""), Some(None));
        assert_eq!(read(b"\x03\0\0\x16\x02\xf0\x80"), None, "data of a connection");
    }
}
