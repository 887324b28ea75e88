use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::content::{Hello, Query, Request};

const CURL: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl");
const HELLO: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/curl");
const DIG: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig");
const TCP_AXFR: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/tcp_axfr");
const SSL2: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/sslscan_ssl2");

fn sample(protocol: u8, port: u16, direction: Direction, bytes: &[u8]) -> Sample<&[u8]> {
    Sample {
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        service: Service::Endpoint { ip: IpAddr::from([198, 51, 100, 1]), port, protocol },
        client_port: 40_000,
        direction,
        owned: true,
        bytes,
    }
}

fn said(protocol: u8, port: u16, direction: Direction, bytes: &[u8]) -> Vec<Said> {
    parse(&sample(protocol, port, direction, bytes)).into_iter().map(|utterance| utterance.said).collect()
}

fn asked(port: u16, bytes: &[u8]) -> Vec<Said> {
    said(protocol::TCP, port, Direction::Request, bytes)
}

#[test]
fn what_it_is_follows_from_how_it_begins_whatever_the_port() {
    for port in [80, 443, 8443, 53] {
        assert!(matches!(asked(port, CURL).as_slice(), [Said::Request(Request { .. })]), "{port}");
        assert!(matches!(asked(port, HELLO).as_slice(), [Said::Hello(Hello { .. })]), "{port}");
    }
    assert!(matches!(asked(53, TCP_AXFR).as_slice(), [Said::Query(Query { kind: 252, .. })]));
    let datagram = said(protocol::UDP, 5353, Direction::Request, DIG);
    assert!(matches!(datagram.as_slice(), [Said::Query(Query { kind: 1, .. })]));
}

#[test]
fn what_is_none_of_these_is_junk() {
    assert_eq!(asked(443, SSL2), [Said::Junk(Junk::Syntax)]);
    assert_eq!(asked(80, b"\0\x01\x02"), [Said::Junk(Junk::Syntax)]);
}

#[test]
fn answers_give_a_status_and_nothing_else() {
    let answered = |bytes| said(protocol::TCP, 80, Direction::Answer, bytes);
    assert_eq!(answered(b"HTTP/1.1 404 Not Found\r\n"), [Said::Status(404)]);
    assert_eq!(answered(HELLO), []);
    assert_eq!(answered(CURL), []);
    assert_eq!(answered(b"\0\0"), []);
}

#[test]
fn only_an_owned_connection_is_proof() {
    let owned = sample(protocol::TCP, 80, Direction::Request, CURL);
    let forged = Sample { owned: false, ..owned.clone() };
    for (sample, proof) in [(owned, Proof::Connection), (forged, Proof::None)] {
        let [utterance] = parse(&sample).try_into().expect("one");
        assert_eq!(
            (utterance.proof, utterance.source, utterance.service),
            (proof, sample.source, sample.service)
        );
    }
}
