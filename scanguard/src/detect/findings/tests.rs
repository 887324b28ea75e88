use scanguard_common::outcome::ProbeClass;

use super::*;
use crate::{
    content::Proof,
    detect::{
        Severity, Technique,
        rules::testing::{Script, address, tcp, udp},
    },
    observe::settings,
};

/// A rule that always matches.
struct Always;

impl Rule for Always {
    fn name(&self) -> &'static str {
        "always"
    }
    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }
    fn severity(&self) -> Severity {
        Severity::Info
    }
    fn classes(&self) -> &'static [ProbeClass] {
        &[ProbeClass::Syn]
    }
    fn soonest(&self) -> u32 {
        1
    }
    fn evaluate(&self, source: &crate::detect::Source<'_>) -> Option<Evidence> {
        let window = source.window(settings::Settings::default().horizon);
        Some(Evidence { window, reason: "always".to_owned(), certain: true, proof: Proof::None })
    }
}

fn script(max_open: u32) -> Script {
    Script::new(Box::new(Always), Settings { quiet: Duration::from_secs(60), max_open })
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

#[test]
fn one_scan_is_one_finding_told_at_powers_of_ten_and_closed_after_quiet() {
    let mut script = script(10);
    for second in 0..150 {
        script.at(second).syn(1, 1, 80);
    }
    script.at(300);
    let events = script.events();
    assert_eq!(
        kinds(&events),
        [EventKind::Opened, EventKind::Updated, EventKind::Updated, EventKind::Closed]
    );
    let probes: Vec<_> = events.iter().map(|event| event.finding.probes()).collect();
    assert_eq!(probes, [1, 10, 100, 150]);
    assert!(events.windows(2).all(|pair| pair[0].finding.id == pair[1].finding.id));
    assert_eq!(script.tracker().suppressed(), 147);
}

#[test]
fn a_source_that_comes_back_after_quiet_is_a_new_finding() {
    let mut script = script(10);
    script.at(0).syn(1, 1, 80);
    script.at(100).syn(1, 1, 80);
    let events = script.events();
    assert_eq!(kinds(&events), [EventKind::Opened, EventKind::Closed, EventKind::Opened]);
    assert_ne!(events[0].finding.id, events[2].finding.id);
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut script = script(2);
    for source in 1..=5 {
        script.at(0).syn(source, 1, 80);
    }
    assert_eq!(kinds(&script.events()), [EventKind::Opened, EventKind::Opened]);
    assert_eq!(script.tracker().refused(), 3);
}

#[test]
fn what_finds_no_room_is_handed_to_the_response_all_the_same() {
    let mut script = script(2);
    for source in 1..=5 {
        script.syn(source, 1, 80);
    }
    let unplaced = script.unplaced();
    assert_eq!(unplaced.len(), 3);
    let open: Vec<_> = script.tracker().open().map(|finding| finding.source).collect();
    assert!(unplaced.iter().all(|finding| finding.place.is_none() && !open.contains(&finding.source)));
    assert!(unplaced.iter().all(|finding| finding.has_grounds() && finding.probes() == 1));
    assert!(script.unplaced().is_empty(), "once");
}

#[test]
fn what_is_worth_less_gives_way_and_says_so() {
    let mut script = script(2);
    script.syn(1, 1, 80).syn(2, 1, 80);
    script.at(1).syn(2, 1, 81).syn(2, 1, 82);
    for port in 1..=20 {
        script.at(2).syn(3, 1, port);
    }
    let events = script.events();
    assert_eq!(kinds(&events), [EventKind::Opened, EventKind::Opened, EventKind::Closed, EventKind::Opened]);
    assert_eq!((events[2].finding.source, events[3].finding.source), (address(1), address(3)));
    let reason = &events[2].finding.reason;
    assert!(reason.starts_with("always; gave way to a finding of more worth"), "{reason}");
    assert!(reason.contains("findings.max_open"), "{reason}");
    assert_eq!((script.tracker().displaced(), script.tracker().open().count()), (1, 2));
    assert!(script.tracker().of(&address(1)).is_empty());
    // An idle source gives way to one that does no more.
    script.at(40).syn(4, 1, 80);
    script.events();
    assert_eq!(script.tracker().displaced(), 2);
    assert!(!script.tracker().of(&address(4)).is_empty() && !script.tracker().of(&address(3)).is_empty());
}

#[test]
fn who_gave_way_is_found_again_only_for_what_it_does_from_then_on() {
    let rules = crate::detect::rules::Settings::default().rules();
    let mut script =
        Script::with(crate::detect::Detector::new(rules, Settings { max_open: 1, ..Settings::default() }));
    let nulls = |script: &mut Script, source: u8, ports: std::ops::Range<u16>| {
        for port in ports {
            script.probe(source, ProbeClass::Null, 1, tcp(port));
        }
        script.events();
    };
    nulls(&mut script, 1, 1..4);
    script.at(40);
    nulls(&mut script, 2, 1..4);
    assert_eq!(script.tracker().displaced(), 1);
    script.at(80);
    nulls(&mut script, 1, 10..11);
    assert_eq!(script.tracker().displaced(), 1, "one segment more is nothing");
    nulls(&mut script, 1, 11..13);
    assert_eq!(script.tracker().displaced(), 2);
}

#[test]
fn forged_sources_without_number_hide_no_scan() {
    let rules = crate::detect::rules::Settings::default().rules();
    let mut script = Script::with(crate::detect::Detector::new(rules, Settings::default()));
    for number in 0..10_050 {
        // Sources of many networks, 256 of each.
        let source = (number % 256) | (number / 256) << 16;
        for port in 1..=3 {
            script.forged(source, ProbeClass::Null, tcp(port));
        }
    }
    script.at(1);
    let is_found = |script: &mut Script, source| {
        script.events();
        !script.tracker().of(&address(source)).is_empty()
    };
    script.events();
    assert_eq!((script.tracker().open().count(), script.tracker().refused()), (10_000, 50));
    for port in 1..=40 {
        script.syn(1, 1, port);
    }
    assert!(is_found(&mut script, 1), "a SYN scan at once");
    for port in 1..=12 {
        script.probe(2, ProbeClass::Null, 1, tcp(port));
    }
    assert!(is_found(&mut script, 2), "a NULL scan at once");
    script.at(40);
    for port in 1..=3 {
        script.probe(3, ProbeClass::Null, 1, tcp(port));
    }
    assert!(is_found(&mut script, 3), "three NULL segments, a moment later");
}

#[test]
fn targets_are_a_bounded_sample() {
    let mut script = script(2);
    for port in 1..500 {
        script.at(u64::from(port)).syn(1, 1, port);
    }
    script.at(10_000);
    let events = script.events();
    let closed = &events.last().unwrap().finding;
    assert_eq!(closed.targets.len(), MAX_TARGETS);
    assert!(closed.targets.iter().all(|target| target.port.is_some() && target.protocol == 6));
}

#[test]
fn who_is_let_go_is_accused_again_only_for_what_it_does_from_then_on() {
    let mut script = Script::all_rules();
    let scan = |script: &mut Script, second: u64, source: u8, ports: std::ops::Range<u16>| {
        script.at(second);
        for port in ports {
            script.syn(source, 1, port);
        }
    };
    let accused = |script: &mut Script| {
        script.events();
        [1, 2].map(|source| script.tracker().of(&address(source)).iter().any(Finding::has_grounds))
    };
    for source in [1, 2] {
        scan(&mut script, 0, source, 1..41);
    }
    assert_eq!(accused(&mut script), [true, true]);

    script.release(Some(1));
    for source in [1, 2] {
        scan(&mut script, 10, source, 100..101);
    }
    assert_eq!(accused(&mut script), [false, true], "one probe more is nothing");
    scan(&mut script, 20, 1, 200..240);
    assert_eq!(accused(&mut script), [true, true]);

    script.release(None);
    for source in [1, 2] {
        scan(&mut script, 30, source, 300..301);
    }
    assert_eq!(accused(&mut script), [false, false]);
    scan(&mut script, 40, 2, 400..440);
    assert_eq!(accused(&mut script), [false, true]);
    let opened = script.events().iter().filter(|event| event.kind == EventKind::Opened).count();
    assert_eq!(opened, 2, "the findings go on");
}

/// Forged packets with the address of a client.
type Forgery = (&'static str, fn(&mut Script));

#[test]
fn connections_of_a_client_prove_nothing_of_probes_in_its_name() {
    let forgeries: [Forgery; 5] = [
        ("three NULL segments", |script| {
            for port in 1..=3 {
                script.probe(1, ProbeClass::Null, 1, tcp(port));
            }
        }),
        ("SYNs to closed ports", |script| {
            for port in 1..=40 {
                script.syn(1, 1, port);
            }
        }),
        ("UDP", |script| {
            for port in 1..=40 {
                script.probe(1, ProbeClass::Udp, 1, udp(port));
            }
        }),
        ("aborted handshakes", |script| {
            for port in [21, 22, 25, 80, 110, 143, 443, 3306] {
                script.half_open(1, 1, port);
            }
        }),
        ("a sweep", |script| {
            for host in 1..=100 {
                script.syn(1, host, 22);
            }
        }),
    ];
    for (name, forge) in forgeries {
        let mut script = Script::all_rules();
        for second in 0..100 {
            script.at(second).open(1, 1, 443).completed(1);
        }
        forge(&mut script);
        script.at(101).open(1, 1, 443).completed(1).at(110);
        script.events();
        let open = script.tracker().of(&address(1));
        assert!(!open.is_empty(), "{name}");
        for finding in open {
            let (confidence, spoofable) = finding.known();
            assert!(spoofable == Spoofable::Yes && confidence <= Confidence::Medium, "{name}: {finding:?}");
            assert!(finding.had_connections(), "{name}");
        }
    }
}

/// Matches on probes, which are certain, and on connections, which are proven but may have another cause.
struct Either;

impl Rule for Either {
    fn name(&self) -> &'static str {
        "either"
    }
    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }
    fn severity(&self) -> Severity {
        Severity::Info
    }
    fn classes(&self) -> &'static [ProbeClass] {
        &[ProbeClass::Syn]
    }
    fn evaluate(&self, source: &crate::detect::Source<'_>) -> Option<Evidence> {
        let window = source.window(settings::Settings::default().horizon);
        let is_connected = window.activity.completed() > 0;
        let proof = if is_connected { Proof::Connection } else { Proof::None };
        Some(Evidence { window, reason: "either".to_owned(), certain: !is_connected, proof })
    }
}

#[test]
fn what_was_certain_of_forged_probes_makes_nothing_certain_of_what_is_proven() {
    let mut script = Script::new(Box::new(Either), Settings { quiet: Duration::from_secs(60), max_open: 10 });
    script.syn(1, 1, 80).at(1).open(1, 1, 443).completed(1).at(2);
    let events = script.events();
    assert_eq!(kinds(&events), [EventKind::Opened, EventKind::Updated]);
    let known = events.iter().map(|event| event.finding.known()).collect::<Vec<_>>();
    let proven = (Confidence::Medium, Spoofable::No { completed: 1 });
    assert_eq!(known, [(Confidence::Medium, Spoofable::Yes), proven]);
}
