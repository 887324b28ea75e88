//! Bytes from strangers, made into text that is safe to show, compare and keep.

use std::fmt::Write as _;

/// Appends bytes in lower case, as DNS master files write them (RFC 1035, 5.1). Unprintable bytes, blanks, backslashes
/// and the bytes in `also` become `\DDD`. Every byte becomes at most four characters.
pub(super) fn push_escaped(text: &mut String, bytes: &[u8], also: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'\\' && !also.contains(byte) {
            text.push(char::from(byte.to_ascii_lowercase()));
        } else {
            // Writing to a string cannot fail.
            _ = write!(text, "\\{byte:03}");
        }
    }
}

/// Length in bytes after which an example is cut.
const MAX_BYTES: usize = 120;

/// A stranger's text, cut, and without characters that control a terminal or a log.
pub(super) fn printable(text: &str) -> Box<str> {
    let mut printable = String::new();
    for character in text.chars() {
        if printable.len() >= MAX_BYTES {
            printable.push('…');
            break;
        }
        match character {
            '\'' | '"' => printable.push(character),
            _ => printable.extend(character.escape_debug()),
        }
    }
    printable.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_escaped_and_no_two_names_become_the_same() {
        let escaped = |bytes: &[u8]| {
            let mut text = String::new();
            push_escaped(&mut text, bytes, b".");
            text
        };
        assert_eq!(escaped(b"WWW-1_x"), "www-1_x");
        assert_eq!(escaped(b"a.b"), r"a\046b");
        assert_eq!(escaped(b"a\\046b"), r"a\092046b");
        assert_eq!(escaped(b"\0 \x7f\xff\n"), r"\000\032\127\255\010");
    }

    #[test]
    fn what_others_wrote_cannot_be_more_than_text() {
        assert_eq!(&*printable("/\x1b[31mred\n\u{202e}x"), "/\\u{1b}[31mred\\n\\u{202e}x");
        assert_eq!(&*printable("/straße"), "/straße");
        assert_eq!(&*printable("/?it's"), "/?it's");
        assert_eq!(printable(&"a".repeat(500)).chars().count(), MAX_BYTES + 1);
        assert!(printable(&"\u{10ffff}".repeat(500)).len() < MAX_BYTES + 16);
    }
}
