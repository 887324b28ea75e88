//! SMB: the first message of a connection.

use super::{Greeting, Language};

/// Where the message begins: behind its length.
const MESSAGE: usize = 4;

/// A message of version 1, 2 or 3 ([MS-CIFS], 2.2.3.1; [MS-SMB2], 2.2.1).
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let message = bytes.get(MESSAGE..).filter(|_| bytes.starts_with(&[0, 0]))?;
    let is_one = message.starts_with(b"\xffSMB") || message.starts_with(b"\xfeSMB");
    is_one.then_some(Greeting::plain(Language::Smb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_versions_are_known_by_their_mark() {
        assert!(read(b"\0\0\0\xa4\xffSMBr\0\0\0\0\x08").is_some());
        assert!(read(b"\0\0\0\xa4\xfeSMB\x40\0").is_some());
        assert_eq!(read(b"\0\0\0\xa4SMBr"), None);
        assert_eq!(read(b"\0\0"), None);
    }
}
