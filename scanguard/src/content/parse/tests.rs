use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::content::{Hello, Junk, Query, Request, sample::Place};

const CURL: &[u8] = include_bytes!("../../../../fuzz/corpus/http/curl");
const HELLO: &[u8] = include_bytes!("../../../../fuzz/corpus/tls/curl");
const DIG: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig");
const TCP_AXFR: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/tcp_axfr");

fn sample(protocol: u8, port: u16, begins: Begins, bytes: &[u8]) -> Sample<&[u8]> {
    Sample {
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        service: Service::Endpoint { ip: IpAddr::from([198, 51, 100, 1]), port, protocol },
        client_port: 40_000,
        begins,
        owned: true,
        place: Place::default(),
        bytes,
    }
}

fn said(protocol: u8, port: u16, begins: Begins, bytes: &[u8]) -> Vec<Said> {
    parse(&sample(protocol, port, begins, bytes)).said
}

#[test]
fn what_it_is_follows_from_how_it_begins_whatever_the_port() {
    for port in [80, 443, 8443, 53, 5353] {
        let of = |begins, bytes| said(protocol::TCP, port, begins, bytes);
        assert!(matches!(*of(Begins::Request, CURL), [Said::Request(Request { .. })]), "{port}");
        assert!(matches!(*of(Begins::Hello, HELLO), [Said::Hello(Hello { .. })]), "{port}");
        assert!(matches!(*of(Begins::Query, TCP_AXFR), [Said::Query(Query { kind: 252, .. })]), "{port}");
        let datagram = said(protocol::UDP, port, Begins::Query, DIG);
        assert!(matches!(*datagram, [Said::Query(Query { kind: 1, .. })]), "{port}");
    }
}

#[test]
fn what_only_began_like_it_is_junk() {
    let said = |begins, bytes| said(protocol::TCP, 443, begins, bytes);
    assert_eq!(said(Begins::Request, b"\0\x01\x02\r\n"), [Said::Junk(Junk::Syntax)]);
    assert_eq!(said(Begins::Hello, b"\x16\x03\x01\0\x05\x02\0\0\x01\0"), [Said::Junk(Junk::Syntax)]);
}

#[test]
fn answers_give_a_status_and_nothing_else() {
    let answered = |bytes| said(protocol::TCP, 80, Begins::Status, bytes);
    assert_eq!(answered(b"HTTP/1.1 404 Not Found\r\n"), [Said::Status(404)]);
    assert_eq!(answered(HELLO), []);
    assert_eq!(answered(CURL), []);
    assert_eq!(answered(b"\0\0"), []);
}
