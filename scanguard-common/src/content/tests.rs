//! Beginnings of payloads, as a table.

extern crate std;

use std::{vec, vec::Vec};

use super::*;

/// The beginning of a payload, determined as in the kernel programs.
fn of(speaks: Speaks, protocol: u8, is_answer: bool, payload: &[u8]) -> Option<Begins> {
    let mut head = [0; HEAD];
    let len = payload.len().min(HEAD);
    head[..len].copy_from_slice(&payload[..len]);
    if !is_answer && !may_begin(speaks, &[head[0], head[1]]) {
        return None;
    }
    begins(speaks, protocol, is_answer, &head, payload.len())
}

fn web(payload: &[u8]) -> Option<Begins> {
    of(Speaks::Web, protocol::TCP, false, payload)
}

#[test]
fn requests_are_known_by_their_method_also_by_odd_ones() {
    for request in [
        "GET / HTTP/1.1\r\n",
        "GET /\r\n",
        "POST /upload HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT example.org:443 HTTP/1.1\r\n",
        "GET http://example.org/ HTTP/1.1\r\n",
        "GET ../../etc/passwd HTTP/1.0\r\n",
        "GET ${jndi:ldap://x} HTTP/1.1\r\n",
        "GET \u{e9} HTTP/1.1\r\n",
        "PROPFIND / HTTP/1.1\r\n",
        "UPDATEREDIRECTREF / HTTP/1.1\r\n",
        "QUALYS / HTTP/1.1\r\n",
        "SSTP_DUPLEX_POST /sra_{BA195980} HTTP/1.1\r\n",
        "M-SEARCH /upnp HTTP/1.1\r\n",
        "get / HTTP/1.1\r\n",
        "X / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "\n\r\n\nGET / HTTP/1.1\r\n",
        "\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1",
        "\nget /",
        "GET  /",
        "\r\nGET   ../../etc/passwd HTTP/1.0\r\n",
        "get    / HTTP/1.1\r\n",
        "METHODS-OF-MORE-BYTES / HTTP/1.1",
        "AMETHODTHATFILLSALMOSTALLOFIT /",
    ] {
        assert_eq!(web(request.as_bytes()), Some(Begins::Request), "{request:?}");
    }
}

#[test]
fn payloads_that_are_no_request_are_not_sampled() {
    for payload in [
        "",
        "G",
        "GET",
        "GET ",
        "GET  ",
        "GET\t/",
        " GET /",
        " / HTTP/1.1",
        "A b",
        "AB cd",
        "and the rest of an upload",
        "and so on",
        "and  so on",
        "AMETHODTHATLEAVESNOROOMFORATARGET / HTTP/1.1",
        "\r\n and an upload",
        "\r GET /",
        "\rGET /",
        "\n\tindented",
        "\r\n / HTTP/1.1",
        "HTTP/1.1 200 OK\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "{\"json\": 1}",
        "GET \r\n",
    ] {
        assert_eq!(web(payload.as_bytes()), None, "{payload:?}");
    }
    // A cookie of the remote desktop, and data encrypted by TLS.
    assert_eq!(web(b"\x03\x00\x00\x13\x0e\xe0"), None);
    assert_eq!(web(b"\x17\x03\x03\x00\x40GET / HTTP"), None);
}

#[test]
fn a_client_hello_is_distinguished_from_other_records() {
    let hello = |version, kind| [0x16, 3, version, 2, 0, kind, 0, 1, 0xfc, 3, 3];
    for version in 0..=4 {
        assert_eq!(web(&hello(version, 1)), Some(Begins::Hello), "3.{version}");
    }
    assert_eq!(web(&hello(5, 1)), None, "no such version");
    assert_eq!(web(&hello(3, 2)), None, "a ServerHello");
    assert_eq!(web(&hello(3, 1)[..5]), None, "a record's header alone");
    assert_eq!(of(Speaks::Web, protocol::TCP, true, &hello(3, 1)), None, "from this host");
}

#[test]
fn status_lines_are_answers() {
    let status = |line: &str| of(Speaks::Web, protocol::TCP, true, line.as_bytes());
    assert_eq!(status("HTTP/1.1 404 Not Found\r\n"), Some(Begins::Status));
    assert_eq!(status("HTTP/1.0 200\r\n"), Some(Begins::Status));
    for line in ["HTTP/1.1 20", "HTTP/2.0 200 OK", "HTTP/1.x 200 OK", "HTTP/1.1  200", "GET / HTTP/1.1"] {
        assert_eq!(status(line), None, "{line:?}");
    }
    assert_eq!(web(b"HTTP/1.1 404 Not Found\r\n"), None, "a client says none");
}

/// A message with these flags and this many questions, each for the root and one type.
fn dns(flags: u8, questions: u8) -> [u8; 17] {
    [7, 7, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 1]
}

#[test]
fn dns_goes_by_direction_and_has_one_question() {
    let udp = |is_answer, payload: &[u8]| of(Speaks::Dns, protocol::UDP, is_answer, payload);
    assert_eq!(udp(false, &dns(1, 1)), Some(Begins::Query));
    assert_eq!(udp(true, &dns(0x81, 1)), Some(Begins::Answer));
    assert_eq!(udp(true, &dns(1, 1)), None, "a query that leaves");
    assert_eq!(udp(false, &dns(0x81, 1)), None, "a response that arrives");
    assert_eq!(udp(false, &dns(1, 0)), None, "no question");
    assert_eq!(udp(false, &dns(1, 2)), None, "two questions");
    assert_eq!(udp(false, &dns(1, 1)[..16]), None, "cut");
    let framed = |len: u8| [[0, len].as_slice(), &dns(1, 1)].concat();
    let tcp = |payload: &[u8]| of(Speaks::Dns, protocol::TCP, false, payload);
    assert_eq!(tcp(&framed(17)), Some(Begins::Query));
    assert_eq!(tcp(&framed(200)), Some(Begins::Query), "the rest comes later");
    assert_eq!(tcp(&framed(16)), None, "too short");
    assert_eq!(tcp(&dns(1, 1)), None, "without its length");
    assert_eq!(tcp(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
}

/// The payload of this text, filled up with zeros to this length.
fn filled(text: &[u8], len: usize) -> Vec<u8> {
    let mut payload = text.to_vec();
    payload.resize(len.max(text.len()), 0);
    payload
}

#[test]
fn first_words_are_known_by_their_bytes_at_any_port_of_services() {
    let segment = |payload: &[u8]| of(Speaks::Segments, protocol::TCP, false, payload);
    for payload in [
        b"SSH-2.0-OpenSSH_9.2p1\r\n".as_slice(),
        b"\0\0\x05\xdc\x04\x14abcdefghijklmnop\0\0\x01\x04curve25519-sha256",
        b"\0\0\0\xa4\xffSMBr\0\0\0\0\x08\x01\x40",
        b"\0\0\0\xb2\xfeSMB\x40\0",
        b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
        b"*1\r\n$4\r\nINFO\r\n",
        b"INFO\r\n",
        b"HELP\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"OPTIONS sip:nm SIP/2.0\r\n",
        b"OPTIONS / RTSP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ] {
        assert_eq!(segment(payload), Some(Begins::Greeting), "{payload:?}");
        let answer = of(Speaks::Segments, protocol::TCP, true, payload);
        assert_eq!(answer, None, "from this host: {payload:?}");
    }
    for payload in [
        b"".as_slice(),
        b"S",
        b"\x17\x03\x03\0\x40encrypted",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x03\0\0\x16\x02\xf0\x80",
        b"Select 1",
        b"abcdefgh",
    ] {
        assert_eq!(segment(payload), None, "{payload:?}");
    }
}

#[test]
fn first_words_in_datagrams_are_told_from_all_others() {
    let datagram = |payload: &[u8]| of(Speaks::Datagrams, protocol::UDP, false, payload);
    let ike = [&[7; 8], [0; 8].as_slice(), &[1, 0x10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 84]].concat();
    let quic = |version: [u8; 4], len| filled(&[&[0xc0], version.as_slice(), &[8]].concat(), len);
    for payload in [
        b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19".to_vec(),
        b"\x30\x81\x26\x02\x01\x01\x04\x06public".to_vec(),
        b"\x30\x82\0\x26\x02\x01\0\x04\x06public".to_vec(),
        b"REGISTER sip:198.51.100.1 SIP/2.0\r\n".to_vec(),
        b"M-SEARCH * HTTP/1.1\r\n".to_vec(),
        ike.clone(),
        [[0; 4].as_slice(), &ike].concat(),
        [b"\0\x11\"3DUfw".as_slice(), &ike[8..]].concat(),
        b"\x80\xf0\0\x10\0\x01\0\0\0\0\0\0\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0\x21\0\x01".to_vec(),
        filled(b"\x17\0\x03\x2a", 8),
        filled(b"\x16\x02\0\x01", 12),
        b"\0\x01\0\0\0\x01\0\0stats\r\n".to_vec(),
        b"\x40\x01\x01\xce\xbb.well-known\x04core".to_vec(),
        quic([0x1a, 0x2a, 0x3a, 0x4a], 1_200),
    ] {
        assert_eq!(datagram(&payload), Some(Begins::Greeting), "{payload:?}");
    }
    let mut later = ike.clone();
    later[8] = 1;
    for payload in [
        later,
        // The time, asked by clients of several kinds.
        filled(&[0x1b], 48),
        filled(&[0x23], 48),
        filled(&[0xe3, 0, 6, 0xec], 48),
        // Packets that keep a way through NAT open, and encrypted ones of IPsec.
        vec![0xff],
        b"\r\n\r\n\r\n".to_vec(),
        [[0x9a, 1, 2, 3, 0, 0, 0, 9].as_slice(), &[0x55; 100]].concat(),
        // QUIC of version 1 and 2, a packet of a connection, and a short one.
        quic([0, 0, 0, 1], 1_200),
        quic([0x6b, 0x33, 0x43, 0xcf], 1_200),
        filled(&[0x41, 0x1a, 0x1a, 0x1a, 0x1a], 1_200),
        quic([0x1a; 4], 100),
        b"SIP/2.0 200 OK\r\n".to_vec(),
        b"is anybody there?".to_vec(),
    ] {
        // Line ends alone are sampled, too; the agent finds nothing in them.
        let expected = payload.starts_with(b"\r\n").then_some(Begins::Greeting);
        assert_eq!(datagram(&payload), expected, "{payload:?}");
    }
}

#[test]
fn a_port_speaks_what_the_first_set_says_that_has_it() {
    let is_in = |set, port| match set {
        PortSet::Tcp => [80, 53, 22, 443].contains(&port),
        PortSet::Web => [80, 443].contains(&port),
        PortSet::Dns => port == 53,
        PortSet::Udp => [53, 443, 161].contains(&port),
    };
    for (protocol, port, expected) in [
        (protocol::TCP, 80, Some(Speaks::Web)),
        (protocol::TCP, 443, Some(Speaks::Web)),
        (protocol::TCP, 53, Some(Speaks::Dns)),
        (protocol::TCP, 22, Some(Speaks::Segments)),
        (protocol::TCP, 161, None),
        (protocol::UDP, 53, Some(Speaks::Dns)),
        (protocol::UDP, 443, Some(Speaks::Datagrams)),
        (protocol::UDP, 161, Some(Speaks::Datagrams)),
        (protocol::UDP, 80, None),
        (protocol::SCTP, 80, None),
    ] {
        assert_eq!(speaks(protocol, port, is_in), expected, "{protocol} {port}");
    }
}

#[test]
fn numbers_lead_back() {
    for begins in Begins::ALL {
        assert_eq!(Begins::from_index(begins as u8), Some(begins));
        assert!(begins.limit() <= MAX_SAMPLE && begins.limit() >= HEAD);
    }
    assert_eq!(Begins::from_index(200), None);
}
