//! Bytes that a process chose, made into text that cannot be more than text.

/// The characters of bytes, those that are not UTF-8 as `U+FFFD`. Characters that control a terminal or a log, or that
/// change the direction of text, become escapes such as `\n` and `\u{1b}`.
pub(super) fn clean(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '\'' | '"' | '\\' => text.push(character),
            _ => text.extend(character.escape_debug()),
        }
    }
    text
}

/// The part of a field that is ended by zeros.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The names of a path, the first one first, from a field that has them the other way round, each ended by a zero.
pub(super) fn names(field: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<_> = field.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_calls_itself_cannot_be_more_than_text() {
        for (bytes, expected) in [
            (b"nginx".as_slice(), "nginx"),
            (b"a\nb\x1b[31m\x07", "a\\nb\\u{1b}[31m\\u{7}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}txt.exe".as_bytes(), "\\u{202e}txt.exe"),
            ("straße".as_bytes(), "straße"),
            (b"it's \"x\"", "it's \"x\""),
        ] {
            assert_eq!(clean(bytes), expected);
        }
    }

    #[test]
    fn names_stand_the_last_one_first() {
        assert_eq!(names(b"python3\0bin\0usr\0\0\0"), [b"usr".as_slice(), b"bin", b"python3"]);
        assert!(names(&[0; 8]).is_empty());
        assert_eq!(until_zero(b"sh\0\0"), b"sh");
    }
}
