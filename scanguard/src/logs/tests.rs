//! Lines in the servers' own formats. nginx 1.22.1, Apache 2.4.71 and Caddy 2.6.2 wrote the samples themselves, for
//! the same requests by curl and by hand. Those of Traefik follow its documentation and source code.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    format::Format,
    reader::{Reader, Skipped},
    settings::Settings,
};
use crate::content::{ContentEvent, Junk, Oddity, Proof, Request, Said, Service};

/// A minute after the last line.
const NOW: &str = "2026-11-24T10:22:56Z";

fn reader(trusted: &[&str]) -> Reader {
    let trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
    Reader::new(&Settings { trusted_proxies, ..Settings::default() })
}

fn read_all(reader: &Reader, log: &str) -> (Format, Vec<Result<ContentEvent, Skipped>>) {
    let mut format = Format::Auto;
    let now = NOW.parse().unwrap();
    let read = log.lines().map(|line| reader.read(&mut format, line.as_bytes(), now)).collect();
    (format, read)
}

/// An event in short: source, method, path, status, oddities.
fn short(said: &ContentEvent) -> String {
    let source = said.source.to_ip();
    match &said.said {
        Said::Request(request) => {
            let status = request.status.map_or("-".to_owned(), |status| status.to_string());
            format!("{source} {} {} {status} {:?}", request.method, request.path, request.oddities)
        }
        other => format!("{source} {other:?}"),
    }
}

fn shorts(log: &str) -> Vec<String> {
    read_all(&reader(&[]), log).1.iter().map(|read| short(read.as_ref().unwrap())).collect()
}

fn requests(log: &str, trusted: &[&str]) -> Vec<(String, Request)> {
    let utterances = read_all(&reader(trusted), log).1.into_iter().flatten();
    utterances
        .filter_map(|said| match said.said {
            Said::Request(request) => Some((said.source.to_ip().to_string(), request)),
            Said::Status(_)
            | Said::Hello(_)
            | Said::Query(_)
            | Said::Answer { .. }
            | Said::Greeting(_)
            | Said::Junk(_) => None,
        })
        .collect()
}

#[test]
fn nginx() {
    let expected = [
        "192.0.2.7 GET / 200 []",
        "192.0.2.7 GET /a b/ü 404 []",
        "192.0.2.7 GET /.env 404 []",
        "192.0.2.7 FOO /nope 405 [Method]",
        "192.0.2.7 GET /../../etc/passwd 400 [Traversal, Injection]",
        "2001:db8::7 GET /index.html 200 []",
        "192.0.2.7 GET /x 404 [Jndi]",
        "192.0.2.7 Junk(Syntax)",
        "192.0.2.7 Junk(Syntax)",
        "192.0.2.7 GET /old 404 []",
        "192.0.2.7 GET / 200 [Proxy]",
        "192.0.2.7 CONNECT / 400 [Proxy]",
        "192.0.2.7 GET /a b 400 []",
        "192.0.2.7 GET / 400 []",
        "192.0.2.7 OPTIONS * 400 []",
        "192.0.2.7 GET /\u{fffd}\u{fffd} 404 [Binary]",
    ];
    for log in [
        include_str!("samples/nginx-combined.log"),
        include_str!("samples/nginx-forwarded.log"),
        include_str!("samples/nginx-vhost.log"),
    ] {
        assert_eq!(shorts(log), expected);
        assert_eq!(read_all(&reader(&[]), log).0, Format::Combined);
    }
}

#[test]
fn apache() {
    let mut expected = [
        "192.0.2.7 GET / 404 []",
        "192.0.2.7 GET /a b/ü 404 []",
        "192.0.2.7 GET /.env 404 []",
        "192.0.2.7 FOO /nope 501 [Method]",
        "192.0.2.7 GET /../../etc/passwd 400 [Traversal, Injection]",
        "2001:db8::7 GET /index.html 200 []",
        "192.0.2.7 GET /x 404 [Jndi]",
        "192.0.2.7 Junk(Syntax)",
        "192.0.2.7 Junk(Cut)",
        "192.0.2.7 GET /old 404 []",
        "192.0.2.7 GET / 404 [Proxy]",
        "192.0.2.7 CONNECT / 405 [Proxy]",
        "192.0.2.7 GET /a b 400 []",
        "192.0.2.7 GET / 400 []",
        "192.0.2.7 OPTIONS * 200 []",
        "192.0.2.7 GET /\u{fffd}\u{fffd} 400 [Binary]",
    ];
    assert_eq!(shorts(include_str!("samples/apache-combined.log")), expected);
    assert_eq!(shorts(include_str!("samples/apache-vhost.log")), expected);
    // The common format has no user agent.
    expected[6] = "192.0.2.7 GET /x 404 []";
    assert_eq!(shorts(include_str!("samples/apache-common.log")), expected);
}

#[test]
fn caddy() {
    let log = include_str!("samples/caddy.log");
    let expected = [
        "192.0.2.7 GET / 200 []",
        "192.0.2.7 GET /a b/ü 404 []",
        "192.0.2.7 GET /.env 404 []",
        "192.0.2.7 FOO /nope 404 [Method]",
        "192.0.2.7 GET /../../etc/passwd 404 [Traversal, Injection]",
        "2001:db8::7 GET /index.html 200 []",
        "192.0.2.7 GET /x 404 [Jndi]",
        "192.0.2.7 GET / 200 [Proxy]",
        "192.0.2.7 CONNECT / 308 [Proxy]",
    ];
    assert_eq!(shorts(log), expected);
    assert_eq!(read_all(&reader(&[]), log).0, Format::Caddy);
}

#[test]
fn traefik() {
    let json = include_str!("samples/traefik.log");
    assert_eq!(read_all(&reader(&[]), json).0, Format::Traefik);
    assert_eq!(shorts(json), ["192.0.2.7 GET /.env 404 []", "192.0.2.7 GET / 200 []"]);
    let common = include_str!("samples/traefik-common.log");
    assert_eq!(
        shorts(common),
        ["192.0.2.7 GET /.env 404 []", "192.0.2.7 GET / 499 []", "203.0.113.5 GET / 200 []"]
    );
}

#[test]
fn host_agent_and_referer_are_what_the_format_has() {
    let caddy = requests(include_str!("samples/caddy.log"), &[]);
    assert_eq!(caddy[2].1.host.as_deref(), Some("shop.example"));
    let vhost = requests(include_str!("samples/nginx-vhost.log"), &[]);
    assert_eq!(vhost[2].1.host.as_deref(), Some("shop.example"));
    assert_eq!(vhost[4].1.host, None, "nginx knew none");
    assert_eq!(vhost[5].1.host.as_deref(), Some("2001:db8::7"));
    for log in [
        include_str!("samples/nginx-combined.log"),
        include_str!("samples/apache-combined.log"),
        include_str!("samples/caddy.log"),
    ] {
        let request = &requests(log, &[])[1].1;
        assert_eq!(request.agent.as_deref(), Some("Mozilla/5.0 \"quoted\" \\back"));
        assert_eq!(request.referer.as_deref(), Some("search.example"));
    }
    let first = requests(include_str!("samples/nginx-combined.log"), &[]).remove(0).1;
    assert_eq!((first.host, first.agent.as_deref(), first.referer), (None, Some("curl/7.88.1"), None));
}

#[test]
fn nothing_private_is_kept() {
    for log in [
        include_str!("samples/nginx-forwarded.log"),
        include_str!("samples/apache-vhost.log"),
        include_str!("samples/caddy.log"),
        include_str!("samples/traefik.log"),
        include_str!("samples/traefik-common.log"),
    ] {
        let said = format!("{:?}", read_all(&reader(&[]), log).1);
        assert!(!said.contains("secret") && !said.contains("bob"), "{said}");
    }
}

#[test]
fn forged_forwarding_is_believed_of_trusted_proxies_only() {
    for (log, place) in [
        (include_str!("samples/nginx-forwarded.log"), 2),
        (include_str!("samples/caddy.log"), 2),
        (include_str!("samples/traefik.log"), 1),
    ] {
        let client = |trusted: &[&str]| {
            read_all(&reader(trusted), log).1.remove(place).map(|said| said.source.to_ip())
        };
        let ip = |text: &str| Ok(text.parse().unwrap());
        assert_eq!(client(&[]), ip("192.0.2.7"));
        assert_eq!(client(&["198.51.100.0/24"]), ip("192.0.2.7"));
        assert_eq!(client(&["192.0.2.0/24"]), ip("203.0.113.5"));
        assert_eq!(client(&["192.0.2.0/24", "203.0.113.0/24"]), ip("198.51.100.9"));
        let all = ["192.0.2.0/24", "203.0.113.0/24", "198.51.100.0/24"];
        assert_eq!(client(&all), Err(Skipped::Proxy));
    }
    // Traefik does not escape user agents: one with quotes is no header.
    let log = include_str!("samples/traefik-common.log");
    let clients = read_all(&reader(&["203.0.113.0/24"]), log).1;
    assert_eq!(clients[2].as_ref().unwrap().source.to_ip().to_string(), "198.51.100.9");
}

#[test]
fn an_utterance_of_a_log_is_proven_and_has_no_service() {
    let log = include_str!("samples/nginx-combined.log");
    let said = read_all(&reader(&[]), log).1.remove(0).unwrap();
    assert_eq!((said.service, said.proof), (Service::Log, Proof::Connection));
}

#[test]
fn lines_that_say_nothing_are_told_apart() {
    let old = r#"192.0.2.7 - - [24/Nov/2026:11:17:55 +0100] "GET / HTTP/1.1" 200 3 "-" "-""#;
    let rows: [(&[u8], Skipped); 12] = [
        (b"nonsense", Skipped::Syntax),
        (b"{}", Skipped::Syntax),
        (br#"{"level":"info","ts":1.5,"logger":"admin","msg":"admin endpoint started"}"#, Skipped::Syntax),
        (br#"192.0.2.7 - - [24/Nov/2026:10:21:50 +0000] "GET / HTTP/1.1" 200"#, Skipped::Old),
        (br#"192.0.2.7 - - [24/Nov/2026:10:21:50 +0000] "GET / HTTP/1.1"#, Skipped::Syntax),
        (br#"192.0.2.7 - - [24/Nov/2026:10:21:50 +0000] "GET / HTTP/1.1" GET 3"#, Skipped::Syntax),
        (br#"192.0.2.7 - - "GET / HTTP/1.1" 200 3"#, Skipped::Syntax),
        (br#"client.example - - [24/Nov/2026:10:21:50 +0000] "GET / HTTP/1.1" 200 3"#, Skipped::Address),
        (br#"127.0.0.1 - - [24/Nov/2026:10:22:50 +0000] "GET / HTTP/1.1" 200 3"#, Skipped::Local),
        (br#"::1 - - [24/Nov/2026:10:22:50 +0000] "GET / HTTP/1.1" 200 3"#, Skipped::Local),
        (b"\xff\xfe\x00", Skipped::Syntax),
        (old.as_bytes(), Skipped::Old),
    ];
    let now: Timestamp = NOW.parse().unwrap();
    for (line, why) in rows {
        // The fourth line is whole, with an old time.
        let now = if why == Skipped::Old { now + Duration::from_secs(300) } else { now };
        let read = reader(&[]).read(&mut Format::Auto, line, now);
        assert_eq!(read, Err(why), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn who_is_called_like_a_line_does_not_forge_one() {
    let log = r#"192.0.2.7 - x [24/Nov/2026:10:22:50 +0000] \x22GET /fake [24/Nov/2026:10:22:50 +0000] "GET /real HTTP/1.1" 200 3"#;
    assert_eq!(shorts(log), ["192.0.2.7 GET /real 200 []"]);
}

#[test]
fn the_host_that_was_asked_for_is_not_the_client_though_it_may_be_an_address() {
    for who in [
        "203.0.113.9 192.0.2.7 - - ",
        "203.0.113.9 192.0.2.7 - 198.51.100.1 ",
        "203.0.113.9:80 192.0.2.7 - - ",
        "[2001:db8::9] 192.0.2.7 - - ",
        "2001:db8::9 192.0.2.7 - - ",
        "203.0.113.9 192.0.2.7 ",
        "- 192.0.2.7 - - ",
        "192.0.2.7 - 203.0.113.9 ",
    ] {
        let log = format!(r#"{who}[24/Nov/2026:10:22:50 +0000] "GET /.env HTTP/1.1" 404 3 "-" "-""#);
        assert_eq!(shorts(&log), ["192.0.2.7 GET /.env 404 []"], "{who}");
    }
    // The second of three words may be an ident answer that the client made up, or the client behind its host.
    let log = r#"203.0.113.9 192.0.2.7 - [24/Nov/2026:10:22:50 +0000] "GET /.env HTTP/1.1" 404 3"#;
    assert_eq!(read_all(&reader(&[]), log).1, [Err(Skipped::Address)]);
}

#[test]
fn a_time_that_is_none_or_to_come_is_now() {
    for time in ["yesterday", "24/Nov/2036:10:22:50 +0000", "99/Nov/2026:10:22:50 +0000"] {
        let log = format!("192.0.2.7 - - [{time}] \"GET /real HTTP/1.1\" 200 3");
        assert_eq!(shorts(&log), ["192.0.2.7 GET /real 200 []"]);
    }
}

#[test]
fn the_format_is_settled_by_the_first_line_that_can_be_read() {
    let mut format = Format::Auto;
    let (reader, now) = (reader(&[]), NOW.parse().unwrap());
    assert_eq!(reader.read(&mut format, b"nonsense", now), Err(Skipped::Syntax));
    assert_eq!(format, Format::Auto);
    let caddy = include_str!("samples/caddy.log").lines().next().unwrap();
    assert!(reader.read(&mut format, caddy.as_bytes(), now).is_ok());
    let nginx = include_str!("samples/nginx-combined.log").lines().next().unwrap();
    assert_eq!(reader.read(&mut format, nginx.as_bytes(), now), Err(Skipped::Syntax));
    assert_eq!(format, Format::Caddy);
}

#[test]
fn the_corpus_is_read_without_a_panic() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/log_line");
    let (mut files, mut read) = (0, 0);
    for entry in directory.read_dir().unwrap() {
        let line = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        read += usize::from(reader(&[]).read(&mut Format::Auto, &line, NOW.parse().unwrap()).is_ok());
    }
    assert!(files >= 20 && read >= 10, "{read} of {files}");
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_wrong(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for mut format in [Format::Auto, Format::Combined, Format::Caddy, Format::Traefik] {
            let _ = reader(&["10.0.0.0/8"]).read(&mut format, &line, NOW.parse().unwrap());
        }
    }

    #[test]
    fn no_real_line_that_was_damaged_is_too_wrong(which in 0..33_usize, at in 0..900_usize, with in "\\PC{0,3}[\"\\\\x \\[\\]{},:]{0,3}") {
        let logs = [
            include_str!("samples/nginx-forwarded.log"),
            include_str!("samples/caddy.log"),
            include_str!("samples/traefik.log"),
            include_str!("samples/traefik-common.log"),
        ]
        .concat();
        let mut line = logs.lines().nth(which % logs.lines().count()).unwrap().to_owned();
        let at = line.floor_char_boundary(at.min(line.len()));
        let end = line.floor_char_boundary((at + 2).min(line.len()));
        line.replace_range(at..end.max(at), &with);
        for mut format in [Format::Auto, Format::Combined, Format::Caddy, Format::Traefik] {
            let _ = reader(&["192.0.2.0/24"]).read(&mut format, line.as_bytes(), NOW.parse().unwrap());
        }
    }
}

#[test]
fn junk_is_no_request() {
    let log = r#"192.0.2.7 - - [24/Nov/2026:10:22:50 +0000] "-" 408 - "-" "-""#;
    let said = read_all(&reader(&[]), log).1.remove(0).unwrap().said;
    assert_eq!(said, Said::Junk(Junk::Cut));
    let log = r#"192.0.2.7 - - [24/Nov/2026:10:22:50 +0000] "GET /%00 HTTP/1.1" 400 0"#;
    assert_eq!(requests(log, &[])[0].1.oddities, [Oddity::Injection]);
}
