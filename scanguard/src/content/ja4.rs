//! JA4: a fingerprint of the TLS client that wrote a hello.
//!
//! It follows FoxIO's specification of JA4 for TLS clients (BSD 3-Clause; the other methods of JA4+ have another
//! licence and are not here): <https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md>. The code was
//! written anew from that text.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::extension::{ALPN, SERVER_NAME};

/// The parts of a fingerprint. Values of GREASE are left out everywhere.
#[derive(Debug, Default)]
pub(super) struct Ja4 {
    /// The version in the hello itself. `supported_versions` overrules it.
    pub(super) version: u16,
    supported_version: Option<u16>,
    cipher_suites: Vec<u16>,
    extensions: Vec<u16>,
    signature_algorithms: Vec<u16>,
    /// First and last character of the first application protocol.
    protocol: Option<(char, char)>,
}

impl Ja4 {
    pub(super) fn set_supported_versions(&mut self, versions: impl Iterator<Item = u16>) {
        self.supported_version = versions.filter(is_meant).max();
    }

    pub(super) fn set_cipher_suites(&mut self, suites: impl Iterator<Item = u16>) {
        self.cipher_suites = suites.filter(is_meant).collect();
    }

    pub(super) fn set_signature_algorithms(&mut self, algorithms: impl Iterator<Item = u16>) {
        self.signature_algorithms = algorithms.filter(is_meant).collect();
    }

    pub(super) fn push_extension(&mut self, kind: u16) {
        self.extensions.extend(Some(kind).filter(is_meant));
    }

    /// The first and last character of the first application protocol. If one of them is neither a digit nor a letter,
    /// those of its hexadecimal form.
    pub(super) fn set_protocol(&mut self, name: &[u8]) {
        let hexadecimal = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
        self.protocol = name.first().zip(name.last()).map(|(first, last)| {
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
                (char::from(*first), char::from(*last))
            } else {
                (hexadecimal(first >> 4), hexadecimal(last & 0xf))
            }
        });
    }
}

/// Whether a value is real: clients send some values only to keep servers tolerant (0x0a0a, 0x1a1a to 0xfafa, RFC
/// 8701).
fn is_meant(value: &u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high != low || low & 0xf != 0xa
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.supported_version.unwrap_or(self.version) {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let destination = if self.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let (suites, extensions) = (self.cipher_suites.len().min(99), self.extensions.len().min(99));
        let (first, last) = self.protocol.unwrap_or(('0', '0'));

        let mut sorted = self.cipher_suites.clone();
        sorted.sort_unstable();
        let suites_hash = truncated_hash(&list(&sorted));

        // The first part has these already.
        let in_first_part = [SERVER_NAME, ALPN];
        let mut sorted: Vec<_> =
            self.extensions.iter().copied().filter(|kind| !in_first_part.contains(kind)).collect();
        sorted.sort_unstable();
        let mut hashed = list(&sorted);
        if !hashed.is_empty() && !self.signature_algorithms.is_empty() {
            hashed = format!("{hashed}_{}", list(&self.signature_algorithms));
        }
        let extensions_hash = truncated_hash(&hashed);
        write!(
            f,
            "t{version}{destination}{suites:02}{extensions:02}{first}{last}_{suites_hash}_{extensions_hash}"
        )
    }
}

fn list(values: &[u16]) -> String {
    values.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

/// The first 12 digits of the SHA-256; zeros for empty text.
fn truncated_hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [u16; 16] = [
        0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
        0x009c, 0x009d, 0x002f, 0x0035,
    ];
    const EXTENSIONS: [u16; 18] = [
        0x3a3a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
        0x002b, 0xff01, 0x000b, 0x000a, 0xfafa, 0x0015,
    ];
    const ALGORITHMS: [u16; 8] = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

    /// The example of the specification, with GREASE in it.
    fn example() -> Ja4 {
        let mut ja4 = Ja4 { version: 0x0303, ..Ja4::default() };
        ja4.set_supported_versions([0x7a7a, 0x0303, 0x0304].into_iter());
        ja4.set_cipher_suites(SUITES.into_iter());
        EXTENSIONS.into_iter().for_each(|kind| ja4.push_extension(kind));
        ja4.set_signature_algorithms(ALGORITHMS.into_iter());
        ja4.set_protocol(b"h2");
        ja4
    }

    #[test]
    fn the_example_of_the_specification_has_its_fingerprint() {
        assert_eq!(example().to_string(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn without_signature_algorithms_extensions_are_hashed_alone() {
        let without = Ja4 { signature_algorithms: Vec::new(), ..example() };
        assert_eq!(without.to_string(), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    }

    #[test]
    fn what_is_not_there_is_zeros() {
        assert_eq!(Ja4::default().to_string(), "t00i000000_000000000000_000000000000");
        let old = Ja4 { version: 0x0300, ..Ja4::default() };
        assert!(old.to_string().starts_with("ts3i0000"));
    }

    #[test]
    fn counts_end_at_99() {
        let mut many = example();
        many.set_cipher_suites(1..200);
        assert!(many.to_string().starts_with("t13d9916h2_"), "{many}");
    }

    #[test]
    fn protocols_are_shortened_as_the_specification_does_it() {
        // The specification's own examples, and names that are in use.
        let cases: [(&[u8], &str); 9] = [
            (b"", "00"),
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (&[0xab], "ab"),
            (&[0xab, 0xcd], "ad"),
            (&[0x30, 0xab], "3b"),
            (&[0x30, 0x31, 0xab, 0xcd], "3d"),
            (&[0x30, 0xab, 0xcd, 0x31], "01"),
        ];
        for (name, expected) in cases {
            let mut ja4 = example();
            ja4.set_protocol(name);
            let text = ja4.to_string();
            assert_eq!(&text[8..10], expected, "{name:?}");
        }
    }
}
