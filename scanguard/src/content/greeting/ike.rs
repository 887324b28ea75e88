//! IKE: the proposal of a client's first message.

use super::{Greeting, Language, Manner, Tried, reader::Reader};

/// Versions in the header (RFC 2408, 3.1; RFC 7296, 3.1).
const V1: u8 = 0x10;
const V2: u8 = 0x20;
/// Exchanges: main and aggressive mode, and that of version 2.
const EXCHANGES: [(u8, u8); 3] = [(V1, 2), (V1, 4), (V2, 34)];
/// Payloads: the proposals of both versions, and the name of the software of version 1.
const PROPOSALS: [u8; 2] = [1, 33];
const VENDOR: u8 = 13;
/// How many payloads are looked at.
const MAX_PAYLOADS: usize = 16;

/// Attributes of version 1 (RFC 2409, appendix A) that no client has offered for years: DES, and the group of 768
/// bits.
const WEAK: [[u8; 4]; 2] = [[0x80, 1, 0, 1], [0x80, 4, 0, 1]];

/// A first message.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    // At the port of NAT traversal (RFC 3948, 2.2).
    let bytes = bytes.strip_prefix(&[0; 4]).unwrap_or(bytes);
    let mut message = Reader(bytes);
    let initiator = message.bytes(8)?;
    let responder = message.bytes(8)?;
    let (mut next, version, exchange) = (message.byte()?, message.byte()?, message.byte()?);
    if initiator == [0; 8] || responder != [0; 8] || !EXCHANGES.contains(&(version, exchange)) {
        return None;
    }
    // Flags, the number of the message, its length.
    message.bytes(9)?;
    let (mut proposal, mut has_vendor) = (None, false);
    for _ in 0..MAX_PAYLOADS {
        let Some((following, body)) = payload(&mut message) else { break };
        if PROPOSALS.contains(&next) {
            proposal = proposal.or(Some(body));
        }
        has_vendor |= next == VENDOR;
        next = following;
    }
    let proposal = proposal?;
    let is_weak = proposal.windows(4).any(|attribute| WEAK.iter().any(|weak| weak == attribute));
    // Every client of version 1 names extensions that it knows, such as that for NAT.
    let is_probe = version == V1 && is_weak && !has_vendor;
    Some(Greeting {
        language: Language::Ike,
        manner: if is_probe { Manner::Probe } else { Manner::Ordinary },
        tried: Some((Tried::Proposal, [&[exchange], proposal].concat())),
        client: None,
    })
}

/// The kind of the next payload, and the contents of this one, as far as they were seen.
fn payload<'b>(message: &mut Reader<'b>) -> Option<(u8, &'b [u8])> {
    let next = message.byte()?;
    message.byte()?;
    let length = usize::from(message.word()?).checked_sub(4)?;
    let body = message.0.get(..length).unwrap_or(message.0);
    message.0 = message.0.get(length..).unwrap_or_default();
    Some((next, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first message of this version and exchange with these payloads.
    fn message(version: u8, exchange: u8, payloads: &[(u8, &[u8])]) -> Vec<u8> {
        let kind = |place: usize| payloads.get(place).map_or(0, |(kind, _)| *kind);
        let mut bytes = vec![7; 8];
        bytes.extend([0; 8]);
        bytes.extend([kind(0), version, exchange, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for (place, (_, body)) in payloads.iter().enumerate() {
            bytes.extend([kind(place + 1), 0]);
            bytes.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend(*body);
        }
        bytes
    }

    const DES: &[u8] = &[0, 0, 0, 1, 0x80, 1, 0, 1, 0x80, 2, 0, 1];
    const AES: &[u8] = &[0, 0, 0, 1, 0x80, 1, 0, 7, 0x80, 2, 0, 4];

    #[test]
    fn old_proposals_without_any_extension_are_a_scanners() {
        let manner = |bytes: &[u8]| read(bytes).map(|said| said.manner);
        assert_eq!(manner(&message(V1, 2, &[(1, DES)])), Some(Manner::Probe));
        assert_eq!(manner(&message(V1, 2, &[(1, DES), (VENDOR, b"x")])), Some(Manner::Ordinary));
        assert_eq!(manner(&message(V1, 4, &[(1, AES)])), Some(Manner::Ordinary));
        assert_eq!(manner(&message(V2, 34, &[(33, DES)])), Some(Manner::Ordinary));
        assert_eq!(manner(&[&[0; 4], message(V1, 2, &[(1, DES)]).as_slice()].concat()), Some(Manner::Probe));
    }

    #[test]
    fn nmaps_message_is_a_scanners() {
        let said = read(include_bytes!("../../../../fuzz/corpus/greeting/nmap_ike"));
        assert_eq!(said.map(|said| said.manner), Some(Manner::Probe));
    }

    #[test]
    fn proposals_are_told_apart_and_a_repeated_one_is_the_same() {
        let tried = |bytes: &[u8]| read(bytes).and_then(|said| said.tried);
        let one = tried(&message(V1, 2, &[(1, AES), (VENDOR, b"x")]));
        assert_eq!(one, tried(&message(V1, 2, &[(1, AES)])));
        assert_ne!(one, tried(&message(V1, 4, &[(1, AES)])));
        assert_ne!(one, tried(&message(V1, 2, &[(1, DES)])));
        // A cookie of version 2 precedes the proposal.
        assert!(tried(&message(V2, 34, &[(41, b"cookie"), (33, AES)])).is_some());
    }

    #[test]
    fn later_messages_are_not_looked_at() {
        let mut later = message(V1, 2, &[(1, DES)]);
        later[8] = 1;
        assert_eq!(read(&later), None);
        assert_eq!(read(&message(V1, 5, &[(1, DES)])), None);
        assert_eq!(read(&message(V1, 2, &[])), None);
    }
}
