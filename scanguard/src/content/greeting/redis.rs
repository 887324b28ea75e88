//! Redis: an array of words, which is how its clients write a command.

use super::{Greeting, Language};

/// `*2\r\n$4\r\n...`
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let [b'*', count, b'\r', b'\n', b'$', ..] = bytes else { return None };
    count.is_ascii_digit().then_some(Greeting::plain(Language::Redis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array() {
        assert!(read(b"*1\r\n$4\r\nINFO\r\n").is_some());
        assert_eq!(read(b"*a\r\n$4\r\n"), None);
        assert_eq!(read(b"*1"), None);
    }
}
