//! Lines in the servers' own formats. nginx 1.22.1, Apache 2.4.71 and Caddy 2.6.2 wrote the samples themselves, for
//! the same requests by curl and by hand. Those of Traefik follow its documentation and source code.

use std::time::Duration;

use jiff::Timestamp;

use super::{format::Format, reader::Reader, settings::Settings, shape::Shape, skipped::Skipped};
use crate::content::{ContentEvent, Junk, Oddity, Proof, Request, Said, Service};

/// A minute after the last line.
const NOW: &str = "2026-11-24T10:22:56Z";

fn reader(trusted: &[&str]) -> Reader {
    let trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
    Reader::new(&Settings { trusted_proxies, ..Settings::default() })
}

fn read_all(reader: &Reader, log: &str) -> (Format, Vec<Result<ContentEvent, Skipped>>) {
    let mut shape = reader.shape();
    let now = NOW.parse().unwrap();
    let read = log.lines().filter_map(|line| reader.read(&mut shape, line.as_bytes(), now)).collect();
    (shape.format(), read)
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
        let read = reader(&[]).read(&mut reader(&[]).shape(), line, now);
        assert_eq!(read, Some(Err(why)), "{}", String::from_utf8_lossy(line));
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
    let (reader, now) = (reader(&[]), NOW.parse().unwrap());
    let mut shape = reader.shape();
    assert_eq!(reader.read(&mut shape, b"nonsense", now), Some(Err(Skipped::Syntax)));
    assert_eq!(shape.format(), Format::Auto);
    let caddy = include_str!("samples/caddy.log").lines().next().unwrap();
    assert!(reader.read(&mut shape, caddy.as_bytes(), now).unwrap().is_ok());
    let nginx = include_str!("samples/nginx-combined.log").lines().next().unwrap();
    assert_eq!(reader.read(&mut shape, nginx.as_bytes(), now), Some(Err(Skipped::Syntax)));
    assert_eq!(shape.format(), Format::Caddy);
}

#[test]
fn the_corpus_is_read_without_a_panic() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/log_line");
    let (mut files, mut read) = (0, 0);
    for entry in directory.read_dir().unwrap() {
        let line = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        let said = reader(&[]).read(&mut reader(&[]).shape(), &line, NOW.parse().unwrap());
        read += usize::from(said.is_some_and(|said| said.is_ok()));
    }
    assert!(files >= 20 && read >= 10, "{read} of {files}");
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_wrong(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for format in [Format::Auto, Format::Combined, Format::Caddy, Format::Traefik, Format::Json] {
            let _ = reader(&["10.0.0.0/8"]).read(&mut Shape::new(format), &line, NOW.parse().unwrap());
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
        for format in [Format::Auto, Format::Combined, Format::Caddy, Format::Traefik, Format::Json] {
            let _ = reader(&["192.0.2.0/24"]).read(&mut Shape::new(format), line.as_bytes(), NOW.parse().unwrap());
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

/// A line that can be read, as text of JSON, too.
const LINE: &str =
    r#"192.0.2.7 - - [24/Nov/2026:10:22:50 +0000] "GET /.env HTTP/1.1" 404 3 "-" "curl/7.88.1""#;

#[test]
fn what_is_around_a_line_is_taken_off() {
    let json = serde_json::to_string(&format!("{LINE}\n")).unwrap();
    let inner = r#"{"remote_addr":"192.0.2.7","request":"GET /.env HTTP/1.1","status":"404"}"#;
    let (begin, end) = LINE.split_at(60);
    let logs = [
        format!(r#"{{"log":{json},"stream":"stdout","time":"2026-11-24T10:22:50.1Z"}}"#),
        format!("2026-11-24T10:22:50.1Z stdout F {LINE}"),
        format!("2026-11-24T10:22:50.1Z stdout P {begin}\n2026-11-24T10:22:50.1Z stdout F {end}"),
        format!("<190>Nov 24 10:22:50 edge nginx: {LINE}"),
        format!("Nov 24 10:22:50 edge nginx_access[4711]: {LINE}"),
        format!("2026-11-24T10:22:50.123456+00:00 edge apache2: {LINE}"),
        format!("<190>1 2026-11-24T10:22:50Z edge httpd 4711 - - {LINE}"),
        format!("2026-11-24T10:22:50.1Z stdout F {inner}"),
        inner.to_owned(),
    ];
    for log in logs {
        assert_eq!(shorts(&log), ["192.0.2.7 GET /.env 404 []"], "{log}");
    }
    // The time of what is around it counts if the line has none.
    let old = format!("2026-11-24T09:22:50.1Z stdout F {inner}");
    assert_eq!(read_all(&reader(&[]), &old).1, [Err(Skipped::Old)]);
}

#[test]
fn a_text_that_a_client_chose_is_not_taken_for_a_server_s_line() {
    let now = NOW.parse().unwrap();
    // A file of syslog has lines of other programs, which quote what strangers say.
    for line in [
        format!("Nov 24 10:22:50 edge sshd[7]: {LINE}"),
        format!("Nov 24 10:22:50 edge nginxx: {LINE}"),
        format!("<30>1 - edge postfix/smtpd 7 - - {LINE}"),
    ] {
        let read = reader(&[]).read(&mut reader(&[]).shape(), line.as_bytes(), now);
        assert_eq!(read, Some(Err(Skipped::Program)), "{line}");
    }
    // Once lines are bare, one that looks wrapped is not opened.
    let log = format!("{LINE}\n2026-11-24T10:22:50.1Z stdout F {LINE}");
    assert!(read_all(&reader(&[]), &log).1[1].is_err());
}

#[test]
fn addresses_that_were_masked_are_nobody() {
    for (who, masked) in [
        ("192.0.2.0", true),
        ("10.0.0.0", true),
        ("2001:db8:1:2::", true),
        ("2001:db8::", true),
        ("2001:db8:1:2::1", false),
        ("2001:db8:1:2:1::", false),
        ("192.0.0.2", false),
        ("::ffff:192.0.2.0", true),
    ] {
        let line = LINE.replace("192.0.2.7", who);
        let read = read_all(&reader(&[]), &line).1.remove(0);
        assert_eq!(read.err(), masked.then_some(Skipped::Masked), "{who}");
    }
    let forwarded = format!("{LINE} \"198.51.100.0\"");
    assert_eq!(read_all(&reader(&["192.0.2.7/32"]), &forwarded).1, [Err(Skipped::Masked)]);
}

/// The report about a file with these lines.
fn report(log: &str) -> Option<String> {
    let (reader, now) = (reader(&[]), NOW.parse().unwrap());
    let mut shape = reader.shape();
    for line in log.lines() {
        let _ = reader.read(&mut shape, line.as_bytes(), now);
    }
    shape.unread().map(ToString::to_string)
}

#[test]
fn a_file_of_which_no_line_can_be_read_is_reported_until_one_can() {
    let proxy_manager = "[24/Nov/2026:10:22:50 +0000] - 404 404 - GET https a.example \"/.env\" [Client 192.0.2.7] [Length 3]\n";
    assert_eq!(report(&proxy_manager.repeat(19)), None);
    let said = report(&proxy_manager.repeat(80)).expect("80 of 80 lines");
    assert!(said.contains("80 lines") && said.contains("Nginx Proxy Manager"), "{said}");
    assert_eq!(report(&format!("{}{LINE}", proxy_manager.repeat(80))), None);
    // Some messages among readable lines are usual.
    assert_eq!(report(&format!("{LINE}\n{}", proxy_manager.repeat(199))), None);
    assert!(report(&format!("{LINE}\n{}", proxy_manager.repeat(200))).is_some());
    let masked = report(&format!("{}\n", LINE.replace("192.0.2.7", "192.0.2.0")).repeat(20)).unwrap();
    assert!(masked.contains("masked"), "{masked}");
    let others = format!("Nov 24 10:22:50 edge sshd[7]: {LINE}\n").repeat(20);
    assert!(report(&others).unwrap().contains("logs.programs"));
    let wrapped = format!("2026-11-24T10:22:50.1Z stdout F {proxy_manager}").repeat(20);
    assert!(report(&wrapped).unwrap().contains("Nginx Proxy Manager"));
}

#[test]
fn a_server_that_changes_its_format_is_read_again() {
    let inner = "{\"remote_addr\":\"192.0.2.7\",\"request\":\"GET /.env HTTP/1.1\",\"status\":\"404\"}\n";
    let log = format!("{LINE}\n{}", inner.repeat(202));
    let read = read_all(&reader(&[]), &log).1;
    assert!(read[1..201].iter().all(Result::is_err) && read[201..].iter().all(Result::is_ok));
    assert_eq!(report(&log), None);
}
