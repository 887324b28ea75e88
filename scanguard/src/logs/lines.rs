//! Bytes to lines, in bounded memory.

/// A longer line is skipped: servers cut a request at 8 KiB, and escapes turn one byte into four. Runtimes of containers
/// cut a line at 16 KiB, with something around it and escapes in it.
pub(super) const MAX_LINE: usize = 32 * 1024;

/// A line of a file.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line<'b> {
    /// Without its end.
    Whole(&'b [u8]),
    /// A line that was too long, without its contents.
    TooLong,
}

/// The unfinished line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// All bytes of it so far, including those that are not kept.
    length: u64,
    /// It is too long, and this was reported. Its rest is skipped.
    skipping: bool,
}

impl Lines {
    /// Length in bytes of the line that has not ended yet.
    pub(super) fn pending(&self) -> u64 {
        self.length
    }

    /// Takes bytes, and passes on the lines that end in them.
    pub(super) fn push(&mut self, bytes: &[u8], hand: &mut dyn FnMut(Line<'_>)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            self.length += part.len() as u64;
            if !self.skipping {
                if self.begun.len() + part.len() > MAX_LINE {
                    self.begun.clear();
                    self.skipping = true;
                    hand(Line::TooLong);
                } else if ends && self.begun.is_empty() {
                    hand(Line::Whole(part.trim_ascii_end()));
                } else {
                    self.begun.extend_from_slice(part);
                }
            }
            if ends {
                self.end(hand);
            }
        }
    }

    /// Passes on a last line without an end: no more bytes will come.
    pub(super) fn end(&mut self, hand: &mut dyn FnMut(Line<'_>)) {
        if !self.begun.is_empty() {
            hand(Line::Whole(self.begun.trim_ascii_end()));
        }
        self.begun.clear();
        self.length = 0;
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, Lines) {
        let (mut seen, mut lines) = (Vec::new(), Lines::default());
        for part in parts {
            lines.push(part, &mut |line| {
                seen.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            });
        }
        (seen, lines)
    }

    #[test]
    fn a_line_of_a_mebibyte_is_skipped_and_the_next_is_read() {
        let long = vec![b'a'; 1 << 20];
        let (seen, lines) = lines(&[b"one\r\n", &long, &long, b"\ntwo\nthr"]);
        assert_eq!(seen, [Some(b"one".to_vec()), None, Some(b"two".to_vec())]);
        assert_eq!((lines.pending(), lines.begun.as_slice()), (3, b"thr".as_slice()));
        assert!(lines.begun.capacity() <= 2 * MAX_LINE);
    }

    #[test]
    fn the_longest_line_is_read_and_one_more_byte_is_too_much() {
        let mut line = vec![b'a'; MAX_LINE - 1];
        line.push(b'\n');
        assert_eq!(lines(&[&line]).0, [Some(vec![b'a'; MAX_LINE - 1])]);
        line.insert(0, b'a');
        assert_eq!(lines(&[&line, b"b\n"]).0, [None, Some(b"b".to_vec())]);
    }

    proptest::proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(bytes in proptest::collection::vec(proptest::prop_oneof![9 => 97..99_u8, 1 => 10..11_u8], 0..300), at in 0..300_usize) {
            let at = at.min(bytes.len());
            let (whole, parts) = (lines(&[&bytes]), lines(&[&bytes[..at], &bytes[at..]]));
            proptest::prop_assert_eq!(whole.0, parts.0);
            proptest::prop_assert_eq!(whole.1.pending(), parts.1.pending());
        }
    }
}
