//! SSH: the line by which a client begins, and the algorithms that it offers.

use super::{Greeting, Language, Manner, Tried, reader::Reader};

/// The longest line (RFC 4253, 4.2).
const MAX_LINE: usize = 255;
/// SSH_MSG_KEXINIT (RFC 4253, 12).
const KEXINIT: u8 = 20;
/// Bytes of the random number in it, which is another one each time.
const COOKIE: usize = 16;

/// `SSH-protoversion-softwareversion comments`.
pub(super) fn line(bytes: &[u8]) -> Option<Greeting> {
    let rest = bytes.strip_prefix(b"SSH-")?;
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    let line = String::from_utf8_lossy(&rest[..end.min(MAX_LINE)]);
    let (version, software) = line.split_once('-').unwrap_or((&line, ""));
    // Version 1 alone was given up in 2006. 1.99 is both.
    let is_old = version.starts_with("1.") && version != "1.99";
    Some(Greeting {
        language: Language::Ssh,
        manner: if is_old { Manner::Odd } else { Manner::Ordinary },
        tried: None,
        client: (!software.is_empty()).then(|| software.to_owned()),
    })
}

/// The algorithms that a client offers for the exchange of keys and for the keys of hosts
/// (RFC 4253, 7.1), as far as they were seen.
pub(super) fn algorithms(bytes: &[u8]) -> Option<Greeting> {
    let mut message = Reader(bytes);
    message.bytes(5)?;
    if message.byte()? != KEXINIT || !bytes.starts_with(&[0, 0]) {
        return None;
    }
    message.bytes(COOKIE)?;
    let lists = message.0;
    let exchanges = list(&mut message)?;
    list(&mut message)?;
    let offered = &lists[..lists.len() - message.0.len()];
    let kind = if exchanges.contains(&b',') { Tried::Algorithms } else { Tried::SingleExchange };
    Some(Greeting {
        language: Language::Ssh,
        manner: Manner::Ordinary,
        tried: Some((kind, offered.to_vec())),
        client: None,
    })
}

/// A list of names, as far as it was seen (RFC 4251, 5).
fn list<'b>(message: &mut Reader<'b>) -> Option<&'b [u8]> {
    if message.word()? != 0 {
        return None;
    }
    let length = usize::from(message.word()?);
    let names = message.0.get(..length).unwrap_or(message.0);
    message.0 = &message.0[names.len()..];
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_software() {
        for (text, client, manner) in [
            ("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Some("OpenSSH_9.2p1 Debian-2"), Manner::Ordinary),
            ("SSH-2.0-Go", Some("Go"), Manner::Ordinary),
            ("SSH-1.99-x\n", Some("x"), Manner::Ordinary),
            ("SSH-1.5-Nmap-SSH1-Hostkey\r\n", Some("Nmap-SSH1-Hostkey"), Manner::Odd),
            ("SSH-2.0-\r\n", None, Manner::Ordinary),
            ("SSH-", None, Manner::Ordinary),
        ] {
            let said = line(text.as_bytes()).expect(text);
            assert_eq!((said.client.as_deref(), said.manner), (client, manner), "{text:?}");
        }
        assert_eq!(line(b"GET / HTTP/1.1"), None);
    }

    /// KEXINIT with this cookie and these lists.
    fn offer(cookie: u8, lists: &[&str]) -> Vec<u8> {
        let mut message = vec![0, 0, 1, 0, 4, KEXINIT];
        message.extend([cookie; COOKIE]);
        for list in lists {
            message.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            message.extend(list.as_bytes());
        }
        message
    }

    #[test]
    fn the_same_algorithms_are_the_same_offer_each_time() {
        let tried = |bytes: &[u8]| algorithms(bytes).and_then(|said| said.tried);
        let both = "curve25519-sha256,ecdh-sha2-nistp256";
        let one = tried(&offer(1, &[both, "ssh-ed25519", "aes128-ctr"]));
        assert!(matches!(one, Some((Tried::Algorithms, _))));
        assert_eq!(one, tried(&offer(2, &[both, "ssh-ed25519", "chacha20"])));
        assert_ne!(one, tried(&offer(1, &[both, "ssh-rsa", "aes128-ctr"])));
        let single = tried(&offer(1, &["curve25519-sha256", "ssh-rsa"]));
        assert!(matches!(single, Some((Tried::SingleExchange, _))));
        assert_eq!(tried(&offer(1, &["curve25519-sha256"])), None, "cut");
        assert_eq!(tried(b"\0\0\0\x45\xffSMBr\0\0\0\0\x08\x01\x40\0\0\0\0\0\0\0\0\0\0"), None);
    }
}
