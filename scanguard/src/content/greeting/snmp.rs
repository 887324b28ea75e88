//! SNMP: a request with its community.

use super::{Greeting, Language, Manner, Tried, reader::Reader};

/// Tags of ASN.1 (X.690), and of the requests (RFC 3416, 3): from GetRequest to GetBulkRequest, without the response
/// and the old trap.
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const SEQUENCE: u8 = 0x30;
const REQUESTS: [u8; 4] = [0xa0, 0xa1, 0xa3, 0xa5];

/// The number of version 3 in messages (RFC 3412, 6).
const V3: u8 = 3;
/// Communities are compared by so many bytes at most; longer ones are cut.
const MAX_COMMUNITY: usize = 64;

/// A request. Traps and answers are none.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let (tag, mut message) = Reader(bytes).element()?;
    let (kind, mut version) = message.element()?;
    if tag != SEQUENCE || kind != INTEGER {
        return None;
    }
    let version = version.byte()?;
    let (kind, community) = message.element()?;
    match (version, kind) {
        (V3, SEQUENCE) => Some(Greeting::plain(Language::Snmp)),
        (0 | 1, OCTETS) => {
            let (request, _) = message.element()?;
            let community = community.0.get(..MAX_COMMUNITY).unwrap_or(community.0).to_vec();
            REQUESTS.contains(&request).then_some(Greeting {
                language: Language::Snmp,
                manner: Manner::Ordinary,
                tried: Some((Tried::Community, community)),
                client: None,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request for sysDescr.0 with this version, community and kind.
    pub(crate) fn message(version: u8, community: &str, request: u8) -> Vec<u8> {
        let community = community.as_bytes();
        let name = [0x30, 14, 0x30, 12, 6, 8, 43, 6, 1, 2, 1, 1, 1, 0, 5, 0];
        let body = [&[2, 1, 7, 2, 1, 0, 2, 1, 0], name.as_slice()].concat();
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let inner =
            [&[2, 1, version, OCTETS, length(community)], community, &[request, length(&body)], &body]
                .concat();
        [&[SEQUENCE, length(&inner)], inner.as_slice()].concat()
    }

    #[test]
    fn a_request_has_its_community() {
        for version in [0, 1] {
            for request in REQUESTS {
                let greeting = read(&message(version, "private", request)).expect("a request");
                assert_eq!(greeting.tried, Some((Tried::Community, b"private".to_vec())));
                assert_eq!(greeting.manner, Manner::Ordinary);
            }
        }
        // The form of lengths that net-snmp writes.
        let long = [0x30, 0x82, 0, 11, 2, 1, 0, 4, 2, b'x', b'y', 0xa0, 0x82, 0, 0];
        assert_eq!(read(&long).and_then(|said| said.tried), Some((Tried::Community, b"xy".to_vec())));
    }

    #[test]
    fn answers_traps_and_what_is_cut_before_its_kind_are_no_requests() {
        for kind in [0xa2, 0xa4, 0xa7, 0xa8] {
            assert_eq!(read(&message(1, "public", kind)), None, "{kind:#x}");
        }
        let whole = message(1, "public", 0xa0);
        assert!((0..whole.len() - 29).all(|length| read(&whole[..length]).is_none()));
        assert_eq!(read(&message(2, "public", 0xa0)), None, "a version that nobody speaks");
    }

    #[test]
    fn version_3_asks_for_the_engine_first_and_tries_nothing() {
        let engine = [0x30, 14, 2, 1, 3, 0x30, 9, 2, 1, 7, 2, 1, 8, 4, 1, 4];
        assert_eq!(read(&engine), Some(Greeting::plain(Language::Snmp)));
    }
}
