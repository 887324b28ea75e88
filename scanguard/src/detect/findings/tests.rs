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
