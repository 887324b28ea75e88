//! CoAP: what is asked for.

use super::{Greeting, Language, Manner, reader::Reader};

/// The option for a part of the path (RFC 7252, 5.10), and the path under which a server lists what it has (RFC 6690).
const URI_PATH: u16 = 11;
const LIST: [&[u8]; 2] = [b".well-known", b"core"];
/// How many options are looked at.
const MAX_OPTIONS: usize = 16;

/// A request by GET.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let mut message = Reader(bytes);
    let (first, code) = (message.byte()?, message.byte()?);
    // Version 1, confirmable or not.
    if first & 0xe0 != 0x40 || code != 1 {
        return None;
    }
    message.word()?;
    message.bytes(usize::from(first & 0x0f))?;
    let (mut number, mut path) = (0, Vec::new());
    for _ in 0..MAX_OPTIONS {
        let Some((delta, value)) = option(&mut message) else { break };
        number += delta;
        if number == URI_PATH {
            path.push(value);
        }
    }
    Some(Greeting::of(Language::Coap, if path == LIST { Manner::Odd } else { Manner::Ordinary }))
}

/// The difference to the number of the option before, and the value. Longer forms are not read: no option that comes
/// before a path needs them.
fn option<'b>(message: &mut Reader<'b>) -> Option<(u16, &'b [u8])> {
    let first = message.byte()?;
    let (delta, length) = (first >> 4, first & 0x0f);
    if delta > 12 || length > 12 {
        return None;
    }
    Some((delta.into(), message.bytes(length.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_the_list_of_all_is_odd() {
        let manner = |bytes: &[u8]| read(bytes).map(|said| said.manner);
        // nmap's.
        assert_eq!(manner(b"\x40\x01\x01\xce\xbb.well-known\x04core"), Some(Manner::Odd));
        assert_eq!(manner(b"\x42\x01\x01\xce\x01\x02\xbb.well-known\x04core"), Some(Manner::Odd));
        assert_eq!(manner(b"\x40\x01\x01\xce\xb4temp"), Some(Manner::Ordinary));
        assert_eq!(manner(b"\x40\x02\x01\xce\xb4temp"), None, "POST");
        assert_eq!(manner(b"\x60\x01\x01\xce"), None, "an answer");
    }
}
