use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const TCP: u8 = protocol::TCP;
const UDP: u8 = protocol::UDP;

fn language(bytes: &[u8], transport: u8) -> Option<Language> {
    read(bytes, transport, HOST, 0).map(|said| said.language)
}

#[test]
fn a_protocol_is_known_whatever_the_port() {
    for (bytes, transport, expected) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), TCP, Language::Ssh),
        (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", TCP, Language::Rdp),
        (b"\0\0\0\xa4\xffSMBr\0\0\0\0\x08\x01\x40\0\0\0\0\0\0\0\0\0\0", TCP, Language::Smb),
        (b"*1\r\n$4\r\nINFO\r\n", TCP, Language::Redis),
        (b"INFO\r\n", TCP, Language::Text),
        (b"OPTIONS sip:nm SIP/2.0\r\n\r\n", TCP, Language::Sip),
        (b"OPTIONS sip:nm SIP/2.0\r\n\r\n", UDP, Language::Sip),
        (b"M-SEARCH * HTTP/1.1\r\n\r\n", UDP, Language::Ssdp),
        (b"\x17\0\x03\x2a\0\0\0\0", UDP, Language::Ntp),
        (b"\0\x01\0\0\0\x01\0\0stats\r\n", UDP, Language::Memcached),
        (b"\x40\x01\x01\xce\xbb.well-known\x04core", UDP, Language::Coap),
    ] {
        assert_eq!(language(bytes, transport), Some(expected), "{bytes:?}");
    }
}

#[test]
fn what_is_sent_to_a_group_is_meant_for_all() {
    let search = b"M-SEARCH * HTTP/1.1\r\n\r\n";
    let manner = |to: IpAddr| read(search, UDP, to, 0).map(|said| said.manner);
    assert_eq!(manner(HOST), Some(Manner::Odd));
    for group in [IpAddr::from([239, 255, 255, 250]), IpAddr::from([255; 4]), "ff02::c".parse().unwrap()] {
        assert_eq!(manner(group), Some(Manner::Ordinary), "{group}");
    }
}

#[test]
fn behind_the_first_words_only_the_algorithms_of_ssh_are_read() {
    for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"SSH-2.0-x\r\n", b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0"] {
        assert!(read(bytes, TCP, HOST, 0).is_some() && read(bytes, TCP, HOST, 21).is_none(), "{bytes:?}");
    }
}

#[test]
fn a_protocol_is_foreign_at_the_ports_of_others_and_nowhere_else() {
    for (language, transport, port, expected) in [
        (Language::Smb, TCP, 22, true),
        (Language::Smb, TCP, 445, false),
        (Language::Smb, TCP, 8000, false),
        (Language::Http, TCP, 6379, true),
        (Language::Text, TCP, 6379, false),
        (Language::Text, TCP, 22, true),
        (Language::Tls, TCP, 22, false),
        (Language::Ike, UDP, 4500, false),
        (Language::Snmp, UDP, 4500, true),
        (Language::Sip, TCP, 5060, false),
        (Language::Ssh, UDP, 22, false),
    ] {
        assert_eq!(is_foreign(language, transport, port), expected, "{language:?} {transport} {port}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_wrong(
        start in proptest::sample::select(vec![
            b"".as_slice(), b"SSH-", b"\0\0\0\0\0\x14", b"\x03\0\0\0\0\xe0", b"\x30", b"\x30\x82", b"\x40\x01",
            b"\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\0\x01\x10\x02", b"REGISTER sip:x SIP/2.0\r\n",
            b"\0\x01\0\0\0\x01\0\0", b"\xc0\x1a\x1a\x1a\x1a",
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..1_100),
        transport in proptest::sample::select(vec![TCP, UDP]),
        position in 0_u64..2,
    ) {
        let bytes = [start, &rest].concat();
        if let Some(said) = read(&bytes, transport, HOST, position) {
            let texts = said.tried.map_or(0, |(_, tried)| tried.len()) + said.client.map_or(0, |name| name.len());
            // A byte that is no text becomes a character of three.
            prop_assert!(texts <= 3 * bytes.len() + 2);
        }
    }
}
