use std::net::Ipv4Addr;

use super::*;
use crate::content::{Answer, By, Junk, Kind, Sensitive, Service};

const MINUTE: Duration = Duration::from_secs(60);

fn said(last: u8, proof: Proof, said: Said) -> ContentEvent {
    let source = Ipv4Addr::new(192, 0, 2, last).into();
    let service = Service::Endpoint { ip: Ipv4Addr::new(198, 51, 100, 1).into(), port: 80, protocol: 6 };
    ContentEvent { source, service, client_port: Some(40_000), proof, said }
}

fn get(path: &str) -> Said {
    Said::Request(Request { method: "GET".to_owned(), path: path.to_owned(), ..Request::default() })
}

fn tracker(max_visitors: u32, redact: bool) -> ContentTracker {
    let mut tracker = ContentTracker::default();
    tracker.reconfigure(Settings { max_visitors, redact, ..Settings::default() });
    tracker
}

#[test]
fn a_rule_sees_at_least_half_a_window_and_never_more_than_one() {
    let mut tracker = tracker(100, false);
    for minute in 0..600u32 {
        let event = said(1, Proof::Connection, get(&format!("/{minute}")));
        let stats = tracker.hear(&event, MINUTE * minute);
        let seen = stats.web.requests;
        assert!(seen <= 60 && seen >= u64::from((minute + 1).min(30)), "{seen} at {minute}");
    }
    let after_quiet = tracker.hear(&said(1, Proof::Connection, get("/")), MINUTE * 10_000);
    assert_eq!(after_quiet.web.requests, 1);
}

#[test]
fn an_answer_is_of_the_request_of_its_connection() {
    let mut tracker = tracker(100, false);
    let on =
        |port: u16, what: Said| ContentEvent { client_port: Some(port), ..said(1, Proof::Connection, what) };
    for event in [
        on(1, get("/there")),
        on(2, get("/not-there")),
        on(2, Said::Status(404)),
        on(1, Said::Status(200)),
        // The answer to the first was not seen, and the last answer belongs to no seen request.
        on(3, get("/lost")),
        on(3, get("/.git/HEAD")),
        on(3, Said::Status(403)),
        on(4, Said::Status(404)),
    ] {
        tracker.hear(&event, MINUTE);
    }
    let stats = tracker.of(&said(1, Proof::Connection, get("/")).source, Proof::Connection).unwrap();
    assert_eq!((stats.web.met, stats.web.missed), (1, 3));
    // Two things may set the same bit.
    assert!((1..=2).contains(&stats.web.missed_paths().value), "{}", stats.web.missed_paths());
    assert_eq!(stats.web.sensitive.entries(Kind::Sought, By::Client), 1);
    assert_eq!(
        stats.examples.iter().take(2).map(|one| &**one).collect::<Vec<_>>(),
        ["/not-there", "/.git/HEAD"]
    );
}

#[test]
fn a_visitor_takes_no_more_memory_than_the_configuration_says() {
    // Two statistics, each with the names of three times eight parents and with eight examples, and the waiting
    // requests.
    let names = 3 * 8 * (size_of::<names::Siblings>() + 124);
    let tally =
        size_of::<ContentStats>() + names + Sensitive::MAX_BYTES + MAX_EXAMPLES * (16 + 124) + 2 * 8 * 16;
    let all =
        size_of::<Client>() + 2 * tally + MAX_PENDING * size_of::<(u16, Pending)>() + MAX_EXAMPLES * 124;
    assert!(all <= 35 * 1024, "{all}");
    assert!(size_of::<ContentStats>() <= 2_160, "{}", size_of::<ContentStats>());
}

#[test]
fn more_connections_than_are_remembered_are_bounded() {
    let mut tracker = tracker(100, false);
    for port in 0..1_000 {
        let event = ContentEvent { client_port: Some(port), ..said(1, Proof::Connection, get("/")) };
        tracker.hear(&event, MINUTE);
    }
    let client = tracker.by_source.values().next().unwrap();
    assert_eq!(client.pending.len(), MAX_PENDING);
}

#[test]
fn packets_in_somebodys_name_are_kept_apart_from_his_requests() {
    let mut tracker = tracker(100, false);
    for _ in 0..3 {
        tracker.hear(&said(1, Proof::None, get("/.env")), MINUTE);
    }
    let stats = tracker.hear(&said(1, Proof::Connection, get("/")), MINUTE);
    assert_eq!((stats.web.requests, stats.web.sensitive.entries(Kind::Asked, By::Anybody)), (1, 0));
}

#[test]
fn a_flood_of_forged_sources_pushes_out_nobody_who_is_not() {
    let mut tracker = tracker(64, false);
    for last in 0..40 {
        tracker.hear(&said(last, Proof::Connection, get("/")), MINUTE);
    }
    for step in 0..10_000u32 {
        let source = Ipv4Addr::from(0x0a00_0000 + step).into();
        let event = ContentEvent { source, ..said(0, Proof::None, get("/")) };
        tracker.hear(&event, MINUTE * 2);
        assert!(tracker.len() <= 64);
    }
    let kept = tracker.by_source.keys().filter(|(_, proof)| *proof == Proof::Connection).count();
    assert_eq!(kept, 40);
    assert!(tracker.evictions() > 9_000);
    tracker.expire(MINUTE * 1_000);
    assert!(tracker.is_empty());
}

#[test]
fn where_nothing_may_be_named_it_is_counted_all_the_same() {
    let mut tracker = tracker(100, true);
    let query = Query { name: "a.b.example.org".to_owned(), kind: 1, class: 1 };
    let request =
        Request { path: "/.env".to_owned(), host: Some("a.b.example".to_owned()), ..Request::default() };
    let mut all = String::new();
    for what in [
        Said::Query(query),
        Said::Request(Request { status: Some(404), ..request.clone() }),
        Said::Request(request),
        Said::Status(404),
        Said::Junk(Junk::Syntax),
    ] {
        let stats = tracker.hear(&said(1, Proof::Connection, what), MINUTE);
        all = format!("{stats:?}");
        assert!(stats.examples.is_empty());
    }
    assert!(!all.contains("example") || !all.contains("b.example"), "{all}");
    let stats = tracker.of(&said(1, Proof::Connection, get("/")).source, Proof::Connection).unwrap();
    assert_eq!((stats.web.requests, stats.dns.queries, stats.broken), (2, 1, 1));
    let sensitive = stats.web.sensitive.entries(Kind::Sought, By::Client);
    assert_eq!((sensitive, stats.web.hosts.all().value), (1, 1));
}

#[test]
fn paths_that_were_cut_may_each_be_another() {
    let mut tracker = tracker(100, false);
    let request = Request { path: "/./././".to_owned(), status: Some(404), ..Request::default() };
    for _ in 0..100 {
        for is_cut in [false, true] {
            let what = Said::Request(Request { is_cut, ..request.clone() });
            tracker.hear(&said(1, Proof::Connection, what), MINUTE);
        }
    }
    let stats = tracker.of(&said(1, Proof::Connection, get("/")).source, Proof::Connection).unwrap();
    let paths = stats.web.missed_paths().value;
    assert!((80..=120).contains(&paths), "{paths}");
}

#[test]
fn what_was_named_before_is_forgotten_once_nothing_may_be_named() {
    let mut tracker = tracker(100, false);
    let request = Request {
        path: "/secret".to_owned(),
        host: Some("www.secret.example".to_owned()),
        ..Request::default()
    };
    let query = Query { name: "www.secret.example".to_owned(), kind: 1, class: 1 };
    for what in [Said::Request(request), Said::Query(query), get("/waits")] {
        tracker.hear(&said(1, Proof::Connection, what), MINUTE);
    }
    let shown = |tracker: &ContentTracker| {
        let client = tracker.by_source.values().next().unwrap();
        format!("{:?} {:?} {:?}", client.older, client.younger, client.pending)
    };
    assert!(shown(&tracker).contains("secret") && shown(&tracker).contains("waits"));
    tracker.reconfigure(Settings { redact: true, ..Settings::default() });
    assert!(!shown(&tracker).contains("secret") && !shown(&tracker).contains("waits"));
    tracker.hear(&said(1, Proof::Connection, Said::Status(404)), MINUTE);
    assert!(!shown(&tracker).contains("waits"));
}

#[test]
fn a_transfer_counts_where_it_was_refused() {
    for kind in [AXFR, IXFR] {
        let mut tracker = tracker(100, false);
        let zone = "example.org";
        let transfer = || Said::Query(Query { name: zone.to_owned(), kind, class: 1 });
        let answer = |code| Said::Answer(Answer { code, name: zone.to_owned(), ..Answer::default() });
        for what in [transfer(), answer(0), transfer(), answer(5), answer(5), transfer()] {
            tracker.hear(&said(1, Proof::Connection, what), MINUTE);
        }
        let stats = tracker.of(&said(1, Proof::Connection, get("/")).source, Proof::Connection).unwrap();
        assert_eq!(stats.dns.refused_transfers, 1, "{kind}");
    }
}

#[test]
fn names_of_private_neighbours_are_no_guesses() {
    let missed = |source: Ipv4Addr| {
        let mut tracker = tracker(100, false);
        let mut count = 0;
        for host in 0..100 {
            let name = format!("{host}.0.168.192.in-addr.arpa");
            let query = Said::Query(Query { name: name.clone(), kind: 12, class: 1 });
            let answer = Said::Answer(Answer { code: 3, name, ..Answer::default() });
            for what in [query, answer] {
                let event = ContentEvent { source: source.into(), ..said(1, Proof::None, what) };
                count = tracker.hear(&event, MINUTE).dns.names.missed().value;
            }
        }
        count
    };
    assert_eq!(missed(Ipv4Addr::new(192, 168, 7, 1)), 0);
    assert!(missed(Ipv4Addr::new(192, 0, 2, 1)) > 80);
}
