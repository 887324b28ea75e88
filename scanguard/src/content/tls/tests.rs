use proptest::prelude::*;

use super::*;

/// Hellos of real clients. Another program, written from the specification, computed their fingerprints.
const CURL: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/curl");
const CURL_TLS12: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/curl_tls12");
const OPENSSL_ALPN: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/openssl_alpn");
const OPENSSL_TLS10: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/openssl_tls10");
const GOBUSTER: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/gobuster");
const NMAP_SSL3: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/nmap_ssl3");
const SSLSCAN_SSL2: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/sslscan_ssl2");

fn shown(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let hello = hello(bytes).expect("a hello");
    (hello.server_name, hello.ja4)
}

fn some(server_name: &str, ja4: &str) -> (Option<String>, Option<String>) {
    (Some(server_name).filter(|name| !name.is_empty()).map(str::to_owned), Some(ja4.to_owned()))
}

/// A message in records of this many bytes.
fn in_records(message: &[u8], length: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).expect("short").to_be_bytes();
        [&[HANDSHAKE, 3, 1], &length[..], part].concat()
    };
    message.chunks(length).flat_map(record).collect()
}

/// A hello with these extensions and their contents.
fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let vector = |content: &[u8]| {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        [&length[..], content].concat()
    };
    let mut body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1, 0x0a, 0x0a]), &[1, 0]].concat();
    let extensions =
        extensions.iter().flat_map(|(kind, content)| [&kind.to_be_bytes(), &vector(content)[..]].concat());
    body.extend(vector(&extensions.collect::<Vec<_>>()));
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    in_records(&[&[CLIENT_HELLO], &length[1..], &body].concat(), 10_000)
}

#[test]
fn hellos_of_real_clients_give_their_name_and_fingerprint() {
    assert_eq!(shown(CURL), some("www.example.org", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"));
    assert_eq!(shown(CURL_TLS12), some("www.example.org", "t12d2807h2_d943125447b4_a44c6288192a"));
    assert_eq!(shown(OPENSSL_ALPN), some("www.example.org", "t13d0411h2_16476d049b0b_78f1d400d464"));
    assert_eq!(shown(OPENSSL_TLS10), some("", "t10i090500_c491f621fb4c_195413a0cc0f"));
    assert_eq!(shown(GOBUSTER), some("", "t13i190800_9dc949149365_97f8aa674fd9"));
    assert_eq!(shown(NMAP_SSL3), some("", "ts3i040000_058957366436_000000000000"));
}

#[test]
fn a_hello_that_is_split_over_records_is_put_together() {
    for length in [1, 3, 100, 511] {
        assert_eq!(shown(&in_records(&CURL[5..], length)), shown(CURL), "{length}");
    }
}

#[test]
fn what_follows_a_hello_is_no_part_of_it() {
    // A change of ciphers, which clients send for middleboxes, and early data.
    let followed = [CURL, &[20, 3, 3, 0, 1, 1], &[23, 3, 3, 0, 2, 9, 9]].concat();
    assert_eq!(shown(&followed), shown(CURL));
}

#[test]
fn a_hello_that_is_cut_gives_the_name_if_that_was_seen_and_no_fingerprint() {
    let name_ends = CURL.windows(15).position(|part| part == b"www.example.org").expect("its name") + 15;
    for length in 0..CURL.len() {
        let expected = if length < name_ends {
            Err(Junk::Cut)
        } else {
            Ok(Hello { server_name: Some("www.example.org".to_owned()), ja4: None })
        };
        assert_eq!(hello(&CURL[..length]), expected, "{length}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_wrong_not_cut() {
    let with = |at: usize, byte: u8| {
        let mut bytes = CURL.to_vec();
        bytes[at] = byte;
        hello(&bytes)
    };
    assert_eq!(with(5, 2), Err(Junk::Syntax), "a ServerHello");
    assert_eq!(with(43, 33), Err(Junk::Syntax), "a session's name of 33 bytes");
    assert_eq!(with(77, 61), Err(Junk::Syntax), "half a cipher suite");
    assert_eq!(hello(&[22, 3, 1, 0, 0]), Err(Junk::Syntax), "an empty record");
    assert_eq!(hello(&[22, 3, 1, 0x40, 1, 1]), Err(Junk::Syntax), "too long a record");
    assert_eq!(hello(&[CURL, &[0]].concat()), hello(CURL));
    // The length of the message ends within its extensions.
    assert_eq!(with(8, 100), Err(Junk::Syntax));
    // One list of extensions is longer than the message, and one is shorter.
    let mut body = with_extensions(&[(SERVER_NAME, &[0, 4, 0, 0, 1, b'x'])]);
    let at = body.len() - 12 + 1;
    body[at] += 1;
    assert_eq!(hello(&body), Err(Junk::Syntax));
    body[at] -= 2;
    assert_eq!(hello(&body), Err(Junk::Syntax));
}

#[test]
fn an_old_hello_without_extensions_is_whole() {
    let message = [&[1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    assert_eq!(shown(&in_records(&message, 100)), some("", "t10i010000_ba72b8082249_000000000000"));
}

#[test]
fn ssl2_is_no_tls() {
    assert!(hello(SSLSCAN_SSL2).is_err());
}

#[test]
fn a_name_is_in_lower_case_and_what_no_host_is_called_is_escaped() {
    let named = |name: &[u8]| {
        let length = u8::try_from(name.len()).expect("short");
        let list = [&[0, length + 3, HOST_NAME, 0, length], name].concat();
        shown(&with_extensions(&[(SERVER_NAME, &list)])).0
    };
    assert_eq!(named(b"WWW.Example.ORG").as_deref(), Some("www.example.org"));
    assert_eq!(named(b"a b\n\xff").as_deref(), Some(r"a\032b\010\255"));
    assert_eq!(named(b"").as_deref(), Some(""));
    // Another kind of name, and none at all.
    assert_eq!(shown(&with_extensions(&[(SERVER_NAME, &[0, 4, 9, 0, 1, b'x'])])).0, None);
    assert_eq!(shown(&with_extensions(&[(SERVER_NAME, &[0, 0])])).0, None);
    assert_eq!(hello(&with_extensions(&[(SERVER_NAME, &[0, 9, 0])])), Err(Junk::Syntax));
}

#[test]
fn a_name_is_bounded() {
    let list = [&[2, 3, HOST_NAME, 2, 0][..], &[b'x'; 512]].concat();
    assert_eq!(shown(&with_extensions(&[(SERVER_NAME, &list)])).0.map(|name| name.len()), Some(MAX_NAME));
}

#[test]
fn grease_and_padding_do_not_change_who_it_is() {
    let plain = with_extensions(&[(SUPPORTED_VERSIONS, &[2, 3, 4]), (21, &[0; 99])]);
    let greased =
        with_extensions(&[(0x1a1a, &[0]), (SUPPORTED_VERSIONS, &[4, 0x2a, 0x2a, 3, 4]), (21, &[0; 7])]);
    assert_eq!(shown(&plain), shown(&greased));
}

proptest! {
    #[test]
    fn any_bytes_are_safe_and_what_comes_out_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let bytes = [&[HANDSHAKE, 3, 1], &bytes[..]].concat();
        if let Ok(hello) = hello(&bytes) {
            prop_assert!(hello.server_name.is_none_or(|name| name.len() <= 4 * MAX_NAME));
        }
    }

    #[test]
    fn any_change_of_a_hello_is_safe(
        changes in prop::collection::vec((0usize..517, any::<u8>()), 1..5), length in 0usize..518
    ) {
        let mut bytes = CURL.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(length);
        if let Ok(Hello { server_name, ja4 }) = hello(&bytes) {
            prop_assert!(server_name.is_some() || ja4.is_some());
            prop_assert!(ja4.is_none_or(|ja4| ja4.len() == 36));
        }
    }
}
