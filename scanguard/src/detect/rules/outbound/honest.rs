//! All rules together: what honest programs do is not told, and what scans do is told once.

use scanguard_common::actor::{Key, Kind};

use super::testing::*;
use crate::{
    detect::{
        Confidence, Severity, Technique,
        findings::{Direction, EventKind, Spoofable},
    },
    outbound::{baseline::News, identity::testing::Draft, settings::Allow},
};

type Play = fn(&mut OutScript);
type Told = (Key, &'static str);

/// A program and its control group do the same.
fn both(script: &mut OutScript, host: u32, port: u16, answered: bool) {
    for actor in [PROGRAM, GROUP] {
        script.ask(actor, host, port);
        if answered {
            script.answered();
        }
    }
}

#[test]
fn honest_programs_are_quiet() {
    let quiet: [(&str, Play); 15] = [
        ("a browser", |script| {
            for page in 0..60 {
                for host in 0..20 {
                    let is_dead = host == 7;
                    both(script.at(u64::from(page) * 10), page * 20 + host, 443, !is_dead);
                }
            }
        }),
        ("apt with a dead mirror", |script| {
            for mirror in 0..6 {
                both(script.at(u64::from(mirror)), mirror, 80, mirror > 1);
            }
        }),
        ("a torrent client with dead peers", |script| {
            for peer in 0..600u32 {
                let port = 10_000 + u16::try_from(peer * 7_919 % 50_000).unwrap();
                both(script.at(u64::from(peer / 10)), peer, port, peer % 5 == 0);
            }
        }),
        ("a torrent client whose peers have ports of any size, for a day", |script| {
            for peer in 0..1_500u32 {
                let port = 1_025 + u16::try_from(peer * 7_919 % 64_000).unwrap();
                both(script.at(u64::from(peer) * 50), peer, port, peer % 5 == 0);
            }
        }),
        ("Prometheus with 200 new targets of which 60 are down", |script| {
            for second in 0..15 {
                for host in (0..200).filter(|host| host % 15 == second) {
                    both(script.at(second.into()), host, 9_100, host % 10 >= 3);
                }
            }
        }),
        ("a backup to 40 hosts", |script| {
            for host in 0..40 {
                both(script.at(u64::from(host) * 10), host, 22, true);
            }
        }),
        ("a mail server with dead exchangers", |script| {
            for host in 0..30 {
                both(script.at(u64::from(host) * 120), host, 25, false);
            }
        }),
        ("a mail server for a day", |script| {
            for host in 0..800 {
                both(script.at(u64::from(host) * 100), host, 25, host % 4 != 0);
            }
        }),
        ("a resolver", |script| {
            for host in 0..800 {
                for actor in [PROGRAM, GROUP] {
                    script.at(u64::from(host / 20)).send(actor, host, 53);
                }
            }
        }),
        ("health checks of 100 pods of which some are not ready", |script| {
            for host in 0..100 {
                both(script.at(u64::from(host / 10)), host, 8_080, host % 5 != 0);
            }
        }),
        ("a crawler with 30 % dead links", |script| {
            for host in 0..6_000 {
                both(script.at(u64::from(host / 50)), host, 443, host % 10 >= 3);
            }
        }),
        ("WireGuard", |script| {
            for peer in 0..40 {
                script.at(u64::from(peer)).send(PROGRAM, peer, 51_820);
            }
        }),
        ("a VPN that reconnects to one of eight servers", |script| {
            for server in 0..8 {
                both(script.at(u64::from(server) * 20), server, 1_194, server == 7);
            }
        }),
        ("a client of peers by datagrams", |script| {
            for peer in 0..2_000u32 {
                let port = 1_025 + u16::try_from(peer * 7_919 % 64_000).unwrap();
                script.at(u64::from(peer / 40)).send(PROGRAM, peer, port);
            }
        }),
        ("ping and traceroute", |script| {
            for host in 0..200 {
                script.at(u64::from(host)).ping(CRAFTER, host);
            }
            for hop in 0..90 {
                script.send(CRAFTER, 1, 33_434 + hop);
            }
        }),
    ];
    for (name, play) in quiet {
        assert_eq!(told(play), [], "{name}");
    }
}

#[test]
fn scans_are_told_once_each_and_by_their_program() {
    let scans: [(&str, Play, Told); 6] = [
        (
            "a sweep by a program",
            |script| {
                (0..600).for_each(|host| both(script.at(u64::from(host / 20)), host, 22, host % 60 == 0));
            },
            (PROGRAM, "outbound_sweep"),
        ),
        (
            "a fast sweep of web servers",
            |script| {
                (0..4_000).for_each(|host| both(script.at(u64::from(host / 400)), host, 443, host % 20 == 0));
            },
            (PROGRAM, "outbound_sweep"),
        ),
        (
            "a port scan",
            |script| (1..=200).for_each(|port| both(script.at(u64::from(port / 20)), 1, port, port == 22)),
            (PROGRAM, "outbound_vertical"),
        ),
        (
            "a block",
            |script| {
                for (host, port) in (0..20).flat_map(|host| (1..=20).map(move |port| (host, port))) {
                    both(script.at(u64::from(host)), host, port, false);
                }
            },
            (PROGRAM, "outbound_block"),
        ),
        (
            "packets made by a process",
            |script| (1..=200).for_each(|port| _ = script.ask(CRAFTER, 1, port)),
            (CRAFTER, "outbound_crafted"),
        ),
        (
            "a new copy of a program for each probe",
            |script| {
                for host in 0..60 {
                    let copy = Key::of_program(Kind::Program, 42, 0, 1_000 + u64::from(host));
                    script.at(u64::from(host / 5)).ask(copy, host, 22).ask(GROUP, host, 22);
                }
            },
            (GROUP, "outbound_sweep"),
        ),
    ];
    for (name, play, expected) in scans {
        assert_eq!(told(play), [expected], "{name}");
    }
}

#[test]
fn the_finding_of_a_group_ends_when_a_program_in_it_turns_out_to_do_it() {
    let mut script = OutScript::all_rules();
    for host in 0..40 {
        let copy = Key::of_program(Kind::Program, 42, 0, 1_000 + u64::from(host));
        script.at(u64::from(host / 10)).ask(copy, host, 22).ask(GROUP, host, 22);
    }
    script.at(20);
    for host in 100..400 {
        both(script.at(20 + u64::from(host / 50)), host, 22, false);
    }
    let events = script.events();
    let ended = events.iter().find(|event| event.kind == EventKind::Closed).expect("the group's ends");
    let program =
        events.iter().find(|event| event.finding.source == PROGRAM.address()).expect("the program's");
    assert_eq!(Key::from_address(ended.finding.source), GROUP);
    assert!(
        ended.finding.reason.ends_with(&format!("goes on as part of {}", program.finding.id)),
        "{ended:?}"
    );
}

#[test]
fn what_is_told_is_who_did_it_and_how_sure_that_is() {
    let mut script = OutScript::all_rules();
    let draft = Draft::new("/usr/bin/python3", "/system.slice/web.service").words(&["python3", "scan.py"]);
    script.is(PROGRAM, &draft, News::default());
    for host in 0..40 {
        script.ask_at(PROGRAM, private(host), 22);
    }
    let event = script.events().remove(0);
    let finding = &event.finding;
    assert_eq!((finding.direction(), finding.source_ip()), (Direction::Outbound, None));
    assert_eq!(finding.known(), (Confidence::High, Spoofable::Seen));
    assert_eq!(finding.techniques, [Technique::NetworkServiceDiscovery]);
    assert_eq!(finding.severity, Severity::High);
    let actor = finding.actor.as_ref().expect("an actor");
    assert_eq!(actor.to_string(), "python3 (unit web.service, uid 33 www-data, pid 4711)");
}

/// Groups of which each asks for thirty-six hosts in vain.
fn all_fail(script: &mut OutScript, groups: u64) {
    for host in 0..36 {
        for group in 0..groups {
            let program = Key::of_program(Kind::Program, 100 + group, 0, 7);
            script.at(u64::from(host / 4)).ask(program, host + 100 * u32::try_from(group).unwrap(), 443);
        }
    }
    script.at(20);
}

#[test]
fn programs_that_fail_all_at_once_are_told_apart_from_a_scan() {
    for (groups, expected) in [(1, Severity::High), (4, Severity::Info)] {
        let mut script = OutScript::all_rules();
        all_fail(&mut script, groups);
        let worst = script.events().iter().map(|event| event.finding.severity).max();
        assert_eq!(worst, Some(expected), "{groups} groups");
    }
}

#[test]
fn what_failed_in_an_outage_counts_for_nobody_once_it_is_over() {
    let mut script = OutScript::all_rules();
    all_fail(&mut script, 4);
    for host in 0..20 {
        both(script.at(21 + u64::from(host)), 5_000 + host, 443, host % 5 != 0);
    }
    let events = script.events();
    assert!(events.iter().all(|event| event.finding.severity == Severity::Info), "{events:#?}");
    // Whoever scans afterwards is told as ever.
    for host in 0..60 {
        both(script.at(50 + u64::from(host / 10)), 7_000 + host, 22, false);
    }
    let worst = script.events().iter().map(|event| event.finding.severity).max();
    assert_eq!(worst, Some(Severity::High));
}

#[test]
fn a_host_behind_this_one_may_be_another_in_disguise() {
    let address = std::net::IpAddr::from([192, 0, 2, 9]).into();
    let inner = Key::of_inner(address, 5);
    let mut script = OutScript::all_rules();
    let mut draft = Draft::new("", "/");
    draft.identity = scanguard_common::actor::Identity { address, ..scanguard_common::actor::Identity::NONE };
    script.is(inner, &draft, News::default());
    (0..60).for_each(|host| _ = script.ask(inner, host, 22));
    let finding = script.events().remove(0).finding;
    assert_eq!(finding.rule, "outbound_sweep");
    assert_eq!(finding.source_ip(), Some([192, 0, 2, 9].into()));
    assert_eq!(finding.known(), (Confidence::Medium, Spoofable::Yes));
}

#[test]
fn nothing_is_told_of_those_who_are_allowed() {
    let pattern = |text: &str| vec![glob::Pattern::new(text).unwrap()];
    for allow in [
        Allow { units: pattern("job.service"), executables: Vec::new() },
        Allow { units: Vec::new(), executables: pattern("/usr/bin/python*") },
    ] {
        let told = told(|script| {
            script.allow(&allow);
            (0..60).for_each(|host| both(script, host, 22, false));
        });
        assert_eq!(told, [], "{allow:?}");
    }
}
