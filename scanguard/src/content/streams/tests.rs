use std::net::Ipv4Addr;

use super::*;
use crate::content::sample;

/// What is sent on connections of one client, from its beginning on.
struct Wire {
    streams: Streams,
    is_owned: bool,
    port: u16,
    /// Where the next segment begins.
    position: u64,
}

/// What became of a segment: it is nothing, or requests of this proof.
type Seen = Option<Proof>;

const SURE: Seen = Some(Proof::Connection);
const UNSURE: Seen = Some(Proof::None);
const NOTHING: Seen = None;

impl Wire {
    fn new() -> Self {
        Self { streams: Streams::default(), is_owned: true, port: 40_000, position: 0 }
    }

    /// Segments that no socket of this host wants, with sequence numbers that go round.
    fn forwarded() -> Self {
        Self { is_owned: false, position: u64::from(u32::MAX) - 50, ..Self::new() }
    }

    fn sample(&self, begins: Begins, bytes: &[u8]) -> Sample<Vec<u8>> {
        let position = if self.is_owned { self.position } else { self.position & 0xffff_ffff };
        let len = u32::try_from(bytes.len()).unwrap();
        Sample {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            service: Service::Endpoint { ip: Ipv4Addr::new(198, 51, 100, 1).into(), port: 80, protocol: 6 },
            client_port: self.port,
            begins,
            owned: self.is_owned,
            place: sample::Place { position, len, ends_head: bytes.ends_with(b"\r\n\r\n") },
            bytes: bytes[..bytes.len().min(begins.limit())].to_vec(),
        }
    }

    fn read(&mut self, begins: Begins, bytes: &[u8]) -> Seen {
        let sample = self.sample(begins, bytes);
        let events = self.streams.read(&sample, Duration::ZERO);
        assert!(events.iter().all(|event| event.proof == events[0].proof), "{events:?}");
        events.first().map(|event| event.proof)
    }

    /// A segment that is sampled.
    fn send(&mut self, text: &str) -> Seen {
        let seen = self.read(Begins::Request, text.as_bytes());
        self.skip(text.len() as u64);
        seen
    }

    /// Bytes that are not sampled.
    fn skip(&mut self, bytes: u64) -> &mut Self {
        self.position += bytes;
        self
    }

    fn hello(&mut self) -> Seen {
        self.read(Begins::Hello, include_bytes!("../../../../fuzz/corpus/tls/curl"))
    }

    fn answer(&mut self, status: u16) -> Seen {
        self.read(Begins::Status, format!("HTTP/1.1 {status} \r\n").as_bytes())
    }

    /// Another connection, maybe with the same port.
    fn connect(&mut self, port: u16) -> &mut Self {
        (self.port, self.position) = (port, 0);
        self
    }
}

const GET: &str = "GET /.env HTTP/1.1\r\nHost: a\r\nUser-Agent: sqlmap\r\n\r\n";

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: {length}\r\n\r\n")
}

fn long(method: &str, filler: usize) -> String {
    format!("{method} / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "c".repeat(filler))
}

#[test]
fn the_rest_of_a_body_behind_the_end_of_its_connection_is_no_request() {
    let mut wire = Wire::new();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    wire.answer(405);
    // The server has closed the connection. No socket wants what is still on its way.
    wire.is_owned = false;
    wire.position = 4_000_000_000;
    assert_eq!(wire.send("GET /.env HTTP/1.1\r\nHost: a\r\n\r\n"), NOTHING);
    assert_eq!(
        wire.connect(40_001).send("GET /.env HTTP/1.1\r\nHost: a\r\n\r\n"),
        UNSURE,
        "another connection"
    );
}

#[test]
fn bytes_ahead_of_the_first_request_leave_it_certain_as_far_as_no_body_can_begin_there() {
    for (ahead, seen) in [(1, SURE), (SHORTEST_HEAD - 1, SURE), (SHORTEST_HEAD, UNSURE), (1_000, UNSURE)] {
        let mut wire = Wire::new();
        assert_eq!(wire.skip(ahead).send("ET /.env HTTP/1.1\r\nHost: a\r\n\r\n"), seen, "{ahead} bytes");
    }
    // A connection from the port of an earlier one.
    let mut wire = Wire::new();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.connect(40_000).skip(1).send("ET /.env HTTP/1.1\r\nHost: a\r\n\r\n"), SURE);
}

#[test]
fn requests_that_follow_each_other_are_proven() {
    let mut wire = Wire::new();
    for _ in 0..10 {
        assert_eq!((wire.send(GET), wire.answer(404)), (SURE, SURE));
    }
    let body = format!("{}abc", post(3));
    assert_eq!((wire.send(&body), wire.send(GET)), (SURE, SURE), "a body in the segment of its head");
    assert_eq!((wire.send(&post(9)), wire.skip(9).send(GET)), (SURE, SURE), "in a segment of its own");
    assert_eq!(
        (wire.send(&long("GET", 1_300)), wire.send(GET)),
        (SURE, SURE),
        "a head that is not sampled whole"
    );
    assert_eq!((wire.send(&GET.repeat(20)), wire.send(GET)), (SURE, SURE), "pipelined ones");
    wire.send(&format!("{}GET /", GET.repeat(20)));
    assert_eq!(wire.skip(500).send(GET), SURE, "pipelined ones that go on in the next segment");
    assert_eq!((wire.send("\r\n"), wire.send(GET)), (NOTHING, SURE), "behind a line end of its own");
    assert_eq!(wire.connect(40_000).send(GET), SURE, "the same port again");
    assert_eq!(wire.connect(40_001).hello(), SURE);
}

#[test]
fn what_lies_in_a_declared_body_is_no_request() {
    for mut wire in [Wire::new(), Wire::forwarded()] {
        let proof = wire.send(&post(10 * GET.len() + 5_000));
        assert_eq!(proof, if wire.is_owned { SURE } else { UNSURE });
        assert_eq!(wire.send(GET), NOTHING);
        // nginx answers 405 before the body has come.
        assert_eq!(wire.answer(405), proof);
        assert_eq!((wire.send(GET), wire.hello(), wire.send(GET)), (NOTHING, NOTHING, NOTHING));
        wire.skip(5_000);
        assert_eq!(wire.send(&GET.repeat(7)), NOTHING);
        assert_eq!(wire.send(GET), proof, "behind it");
        assert_eq!(wire.streams.bodies(), 5);
    }
}

#[test]
fn what_may_lie_in_a_body_is_not_proven() {
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for head in [chunked, &long("POST", 600), &long("PROPFIND", 600)] {
        let mut wire = Wire::new();
        assert_eq!(wire.send(head), SURE);
        assert_eq!(wire.send(GET), UNSURE, "nobody knows whether answers are seen");
        let mut wire = Wire::new();
        wire.connect(1).send(GET);
        wire.answer(200);
        wire.connect(2).send(head);
        assert_eq!(wire.send(GET), NOTHING, "it has no answer yet");
        wire.answer(405);
        assert_eq!((wire.send(GET), wire.answer(404)), (UNSURE, UNSURE));
    }
    let mut wire = Wire::new();
    assert_eq!(wire.skip(700).send(GET), UNSURE, "its head was not sampled");
    let mut wire = Wire::new();
    wire.send(GET);
    assert_eq!(wire.skip(700).send(GET), UNSURE, "nor was this one");
    assert_eq!(wire.connect(9).skip(99).hello(), UNSURE, "no connection over TLS begins so late");
}

#[test]
fn another_protocol_has_no_requests() {
    const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n";
    const CONNECT: &str = "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    for (head, status) in [(UPGRADE, 101), (CONNECT, 200)] {
        for (mut wire, sure) in [(Wire::new(), SURE), (Wire::forwarded(), UNSURE)] {
            wire.send(head);
            wire.answer(status);
            for _ in 0..50 {
                assert_eq!(wire.skip(99).send(GET), NOTHING, "{head}");
            }
            wire.answer(200);
            assert_eq!(wire.send(GET), NOTHING, "text that looks like an answer");
            wire.answer(200);
            assert_eq!(wire.send(GET), UNSURE, "the server goes on with HTTP");
            if sure == SURE {
                assert_eq!(wire.connect(1).send(GET), SURE, "another connection");
                wire.connect(2).send(head);
                wire.answer(status);
                assert_eq!(wire.connect(2).send(GET), SURE, "another connection from the same port");
            }
        }
    }
    for (head, status) in [(CONNECT, 405), (UPGRADE, 200)] {
        let mut wire = Wire::new();
        wire.send(head);
        wire.answer(status);
        assert_ne!(wire.send(GET), NOTHING, "it was refused");
    }
    let mut wire = Wire::forwarded();
    wire.send(UPGRADE);
    wire.answer(101);
    assert_eq!(wire.skip(1 << 27).send(GET), UNSURE, "another connection from the same port, or a long one");
}

#[test]
fn the_rest_of_a_head_is_no_request_and_the_answer_shows_its_end() {
    let head = format!("{}Accept: ", &long("GET", 1_400).trim_end());
    let mut wire = Wire::new();
    assert_eq!(wire.send(&head), SURE);
    assert_eq!(wire.send(GET), UNSURE, "a header's value");
    for (status, expected) in [(404, SURE), (200, SURE), (414, UNSURE), (400, UNSURE), (502, UNSURE)] {
        let mut wire = Wire::new();
        wire.send(&head);
        wire.skip(300).answer(status);
        assert_eq!(wire.send(GET), expected, "{status}");
    }
}

#[test]
fn a_body_that_a_server_does_not_take_for_one_hides_nothing() {
    let mut wire = Wire::new();
    let lie = GET.replace("\r\n\r\n", "\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(wire.send(&lie), SURE);
    assert_eq!((wire.send(GET), wire.send(GET)), (UNSURE, UNSURE));
    let mut wire = Wire::new();
    wire.send(&post(1_000_000_000));
    for _ in 0..2 {
        assert_eq!(wire.send(GET), NOTHING);
        wire.answer(404);
    }
    assert_eq!(wire.send(GET), UNSURE, "it was answered twice");
    assert_eq!(wire.connect(41_000).send(GET), SURE);
}

#[test]
fn requests_that_are_all_answered_are_proven_again_after_a_gap() {
    let mut wire = Wire::new();
    wire.send(GET);
    assert_eq!(wire.skip(5_000).send(GET), UNSURE);
    wire.answer(404);
    assert_eq!(wire.send(GET), UNSURE);
    wire.answer(404);
    assert_eq!((wire.send(GET), wire.answer(404), wire.send(GET)), (SURE, SURE, SURE));
    // One answer may be that to the head before the gap, which comes early.
    let mut wire = Wire::new();
    wire.skip(5_000).send(GET);
    wire.answer(405);
    assert!((0..50).all(|_| wire.send(GET) == UNSURE));
}

#[test]
fn connections_are_bounded_and_forged_ones_push_out_no_others() {
    let mut wire = Wire::new();
    wire.send(GET);
    wire.is_owned = false;
    for number in 0..40_000u32 {
        let source = Ipv4Addr::from(number).into();
        let sample = Sample { source, ..wire.sample(Begins::Request, GET.as_bytes()) };
        wire.streams.read(&sample, Duration::ZERO);
    }
    assert!(wire.streams.forgotten() > 0);
    wire.is_owned = true;
    assert_eq!(wire.send(GET), SURE);
    let before = wire.streams.forgotten();
    let position = wire.position;
    for port in 0..u16::MAX {
        wire.connect(port).send(GET);
    }
    let tables = &wire.streams.proven;
    assert!(tables.young.len() <= MAX_STREAMS && tables.old.len() <= MAX_STREAMS);
    assert!(wire.streams.forgotten() > before);
    // The oldest is forgotten: what it says next is not proven.
    (wire.port, wire.position) = (7, position);
    assert_eq!(wire.send(GET), UNSURE);
}

#[test]
fn a_connection_that_was_quiet_for_long_is_forgotten() {
    for (minutes, expected) in [(9, SURE), (21, UNSURE)] {
        let mut wire = Wire::new();
        wire.send(GET);
        for minute in 1..=minutes {
            // Others say something meanwhile.
            let other = Sample { client_port: 1, ..wire.sample(Begins::Request, GET.as_bytes()) };
            wire.streams.read(&other, Duration::from_secs(60 * minute));
        }
        let sample = wire.sample(Begins::Request, GET.as_bytes());
        let events = wire.streams.read(&sample, Duration::from_secs(60 * minutes));
        assert_eq!(events.first().map(|event| event.proof), expected, "{minutes}");
    }
}

#[test]
fn datagrams_and_captures_prove_nothing() {
    let wire = Wire::new();
    let query = Sample {
        service: Service::Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port: 53, protocol: 17 },
        owned: false,
        ..wire.sample(Begins::Query, include_bytes!("../../../../fuzz/corpus/dns/dig"))
    };
    let mut streams = Streams::default();
    assert_eq!(streams.read(&query, Duration::ZERO)[0].proof, Proof::None);
    let mut wire = Wire::forwarded();
    assert_eq!(
        (wire.send(GET), wire.send(GET), wire.hello(), wire.answer(404)),
        (UNSURE, UNSURE, UNSURE, UNSURE)
    );
}
