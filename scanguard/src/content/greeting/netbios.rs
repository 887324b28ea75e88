//! NetBIOS: the status of a node, for whatever name (RFC 1002, 4.2.17).

use super::{Greeting, Language, Manner};

/// Where the question begins.
const QUESTION: usize = 12;
/// The encoded name `*`, its length before and the root behind it, and the type that asks for the status.
const STATUS: [u8; 36] = *b"\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0\x21";

/// A request for the status. Windows sends one where an address has no other name, and so do tools.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let is_query = bytes.get(2)? & 0x80 == 0;
    let asks = bytes.get(QUESTION..)?.starts_with(&STATUS);
    (is_query && asks).then_some(Greeting::of(Language::Netbios, Manner::Odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_for_the_status_of_any_name_is_one() {
        let header = |flags| [7, 7, flags, 0x10, 0, 1, 0, 0, 0, 0, 0, 0];
        let asked = |flags, name: &[u8]| read(&[header(flags).as_slice(), name].concat());
        assert!(asked(0, &[STATUS.as_slice(), &[0, 1]].concat()).is_some());
        assert_eq!(asked(0x84, &STATUS), None, "an answer");
        let mut name = STATUS;
        name[35] = 0x20;
        assert_eq!(asked(0, &name), None, "who has this name?");
        assert_eq!(asked(0, &STATUS[..20]), None);
    }
}
