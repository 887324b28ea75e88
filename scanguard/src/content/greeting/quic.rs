//! QUIC: a first datagram of a version that no server has.

use super::{Greeting, Language, Manner};

/// The longest number of a connection (RFC 9000, 17.2).
const MAX_ID: u8 = 20;

/// A long header with a reserved version (RFC 9000, 15): the server answers with the versions that it has. Clients may
/// do that now and then, to keep others from relying on versions.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let [first, a, b, c, d, id, ..] = *bytes else { return None };
    let is_reserved = [a, b, c, d].iter().all(|byte| byte & 0x0f == 0x0a);
    (first & 0x80 != 0 && is_reserved && id <= MAX_ID).then_some(Greeting::of(Language::Quic, Manner::Odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_servers_have_are_not_looked_at() {
        assert!(read(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]).is_some());
        assert!(read(&[0x80, 0xba, 0xba, 0xba, 0xba, 8]).is_some());
        for version in [[0, 0, 0, 1], [0x6b, 0x33, 0x43, 0xcf], [0xff, 0, 0, 29], [0; 4]] {
            let [a, b, c, d] = version;
            assert_eq!(read(&[0xc0, a, b, c, d, 8]), None, "{version:?}");
        }
        assert_eq!(read(&[0x40, 0x1a, 0x2a, 0x3a, 0x4a, 8]), None, "a short header");
    }
}
