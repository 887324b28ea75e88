//! Beginnings of payloads, as a table.

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

#[test]
fn numbers_lead_back() {
    for begins in Begins::ALL {
        assert_eq!(Begins::from_index(begins as u8), Some(begins));
        assert!(begins.limit() <= MAX_SAMPLE && begins.limit() >= HEAD);
    }
    assert_eq!(Begins::from_index(200), None);
}
