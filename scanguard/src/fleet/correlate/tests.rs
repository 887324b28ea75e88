use std::net::Ipv4Addr;

use super::*;
use crate::fleet::wire::Sighting;

const START: Duration = Duration::from_secs(1_700_000_000);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn source(last: u32) -> IpNet {
    IpNet::new(Ipv4Addr::from(0xcb00_7100 + last).into(), 32).unwrap()
}

/// The address of a member.
fn home(member: u32) -> IpAddr {
    Ipv4Addr::from(0xc633_0000 + member).into()
}

/// What members say, at a time that goes on.
struct Play {
    correlator: Correlator,
    now: Duration,
    number: u64,
    decided: Vec<Decision>,
}

impl Play {
    fn new() -> Self {
        Self::with(Run::default())
    }

    fn with(settings: Run) -> Self {
        Self { correlator: Correlator::new(settings), now: START, number: 0, decided: Vec::new() }
    }

    fn batch(&mut self) -> Batch {
        self.number += 1;
        let (own, open, sightings) = (Vec::new(), Vec::new(), Vec::new());
        Batch { v: VERSION, boot: 1, n: self.number, own, open, sightings }
    }

    fn hear(&mut self, member: u32, batch: &Batch) {
        for net in self.correlator.take(&format!("edge-{member}"), batch, self.now) {
            self.decided.extend(self.correlator.judge(net, 1, self.now));
        }
    }

    fn say(&mut self, member: u32, sighting: Sighting) {
        let batch = Batch { sightings: vec![sighting], ..self.batch() };
        self.hear(member, &batch);
    }

    fn asks(&mut self, member: u32, source: IpNet, port: u16, met: Met) {
        self.say(member, sighting(source, &[(member, port, met)]));
    }
}

fn sighting(source: IpNet, items: &[(u32, u16, Met)]) -> Sighting {
    let items = items.iter().map(|(member, port, met)| Asked(home(*member), 6, *port, Fate(Some(*met))));
    Sighting {
        source,
        age: 0,
        class: "syn".to_owned(),
        items: items.collect(),
        completed: false,
        proven: false,
        tool: String::new(),
    }
}

#[test]
fn a_scanner_that_asks_each_host_once_is_found_at_the_ninth() {
    let mut play = Play::new();
    for member in 1..=8 {
        play.asks(member, source(1), 23, Met::Closed);
        play.now += seconds(600);
    }
    assert_eq!(play.decided, []);
    play.asks(9, source(1), 23, Met::Closed);
    let [decision] = play.decided.as_slice() else { panic!("{:?}", play.decided) };
    assert_eq!((decision.verdict, decision.rule.as_str()), (Verdict::Suspicion, "fleet_sweep"));
    assert_eq!((decision.members, decision.evidence.len(), decision.fence), (9, 9, 1));
    assert_eq!(decision.evidence[0].age, 4_800);
    assert!(decision.reason.contains("missed 9 services of 9 members and met 0"), "{}", decision.reason);
    // It goes on, and is decided about again in the second half of the time.
    play.asks(17, source(1), 23, Met::Closed);
    assert_eq!(play.decided.len(), 1);
    play.now += seconds(31 * 60);
    play.asks(18, source(1), 23, Met::Closed);
    assert_eq!(play.decided.len(), 2);
}

#[test]
fn a_scanner_that_meets_services_now_and_then_is_found_at_the_sixteenth_miss() {
    let mut play = Play::new();
    for member in 1..=40 {
        play.asks(member, source(1), 3_389, if member % 2 == 0 { Met::Open } else { Met::Dark });
        assert_eq!(play.decided.len(), usize::from(member >= 31), "{member}");
    }
    assert!(play.decided[0].reason.contains("missed 16 members within 24h"), "{:?}", play.decided[0]);
    assert_eq!(play.decided[0].evidence.len(), MAX_EVIDENCE);
}

#[test]
fn what_is_older_than_the_window_is_no_evidence() {
    let mut play = Play::new();
    for member in 1..=40 {
        play.asks(member, source(1), 23, Met::Closed);
        play.now += seconds(4 * 60 * 60);
    }
    assert_eq!(play.decided, []);
    let old = Sighting { age: 25 * 60 * 60 * 1_000, ..sighting(source(2), &[(1, 23, Met::Closed)]) };
    play.say(1, old);
    assert_eq!(play.correlator.bounds().old, 1);
}

#[test]
fn in_a_large_fleet_a_scan_for_a_usual_service_is_found_by_the_dark_addresses() {
    let mut play = Play::new();
    // Some have the service, so that where it is missed is no evidence.
    for member in 1_000..1_010 {
        play.asks(member, source(1), 22, Met::Open);
    }
    for member in 1..=400 {
        // A tenth has dark addresses. More words are kept than there is room for.
        let mut items = vec![(member, 22, Met::Closed)];
        if member % 10 == 0 {
            items.push((member, 22, Met::Dark));
        }
        play.say(member, sighting(source(2), &items));
    }
    assert_eq!(play.decided.len(), 1, "{:?}", play.decided);
}

#[test]
fn an_outage_makes_nobody_a_scanner() {
    let mut play = Play::new();
    // All have the service, and somebody uses it.
    for member in 1..=100 {
        play.asks(member, source(1), 443, Met::Open);
    }
    play.now += seconds(3_600);
    for client in 10..60 {
        for member in 1..=100 {
            play.asks(member, source(client), 443, Met::Closed);
        }
    }
    assert_eq!(play.decided, []);
    // At dark addresses there was never a service.
    for member in 1..=16 {
        play.asks(member, source(200), 443, Met::Dark);
    }
    assert_eq!(play.decided.len(), 1);
}

#[test]
fn a_client_that_finds_some_of_its_hosts_without_the_service_is_no_scanner() {
    let mut play = Play::new();
    for member in 1..=100 {
        // A crawler tries another port first.
        play.asks(member, source(1), 8_443, Met::Closed);
        play.asks(member, source(1), 80, Met::Open);
    }
    assert_eq!(play.decided, []);
    for member in 1..=100 {
        play.asks(member, source(2), 80, Met::Open);
        if member % 3 == 0 {
            play.asks(member, source(2), 8_443, Met::Closed);
        }
    }
    assert_eq!(play.decided, []);
}

#[test]
fn failures_that_exceed_successes_by_nine_are_enough_over_five_members() {
    let mut play = Play::new();
    for member in 1..=5 {
        play.say(member, sighting(source(1), &[(member, 21, Met::Closed), (member, 23, Met::Closed)]));
    }
    assert_eq!(play.decided.len(), 1);
    assert!(play.decided[0].reason.contains("missed 10 services of 5 members and met 0"));
    // With as few members, the number of services does not matter.
    let items = [(1, 21, Met::Closed), (1, 22, Met::Closed), (1, 23, Met::Closed), (1, 24, Met::Closed)];
    for member in 1..=4 {
        play.say(member, sighting(source(2), &items));
    }
    assert_eq!(play.decided.len(), 1);
    // Successes count as much.
    for member in 1..=5 {
        play.asks(member + 10, source(3), 80, Met::Open);
    }
    for member in 1..=5 {
        play.say(member, sighting(source(3), &[(member, 21, Met::Closed), (member, 23, Met::Closed)]));
    }
    assert_eq!(play.decided.len(), 1);
}

#[test]
fn services_that_are_divided_over_members_are_a_vertical_scan() {
    let mut play = Play::new();
    for member in 1..=4u16 {
        for port in 0..5 {
            play.asks(member.into(), source(1), 1_000 + member * 5 + port, Met::Closed);
        }
    }
    assert_eq!(play.decided.len(), 1);
    assert_eq!(play.decided[0].rule, "fleet_vertical");
    // One member alone adds ten at most.
    for port in 0..30 {
        play.asks(1, source(2), 2_000 + port, Met::Closed);
    }
    play.asks(2, source(2), 2_000, Met::Closed);
    play.asks(3, source(2), 2_000, Met::Closed);
    assert_eq!(play.decided.len(), 1);
}

#[test]
fn nobody_is_banned_on_one_members_word() {
    let proven = |member| Sighting { proven: true, ..sighting(source(1), &[(member, 23, Met::Closed)]) };
    let mut play = Play::new();
    play.say(1, proven(1));
    for member in 2..=20 {
        play.asks(member, source(1), 23, Met::Closed);
    }
    assert_eq!(
        play.decided.iter().map(|decision| decision.verdict).collect::<Vec<_>>(),
        [Verdict::Suspicion]
    );
    // A second member has proof, too.
    play.say(21, proven(21));
    assert_eq!(play.decided.last().map(|decision| decision.verdict), Some(Verdict::Ban));
}

#[test]
fn a_poisoned_member_accuses_in_vain_and_is_left_aside() {
    let mut play = Play::new();
    // Six members see the same noise, and the seventh makes up sources.
    for noise in 0..300 {
        for member in [1 + noise % 6, 1 + (noise + 1) % 6] {
            play.asks(member, source(noise), 23, Met::Closed);
        }
    }
    for made_up in 1_000..1_500 {
        for port in 0..40 {
            let lie = Sighting { proven: true, ..sighting(source(made_up), &[(7, port, Met::Dark)]) };
            play.say(7, lie);
        }
    }
    assert_eq!(play.decided, []);
    play.now += seconds(10);
    let changed = play.correlator.tick(play.now);
    assert!(matches!(&changed[..], [(name, Some(_))] if &**name == "edge-7"), "{changed:?}");
    // It is the ninth in vain.
    for member in 10..=17 {
        play.asks(member, source(1_000), 23, Met::Closed);
    }
    assert_eq!(play.decided, []);
    play.asks(18, source(1_000), 23, Met::Closed);
    assert_eq!(play.decided.len(), 1);
    assert!(play.decided[0].evidence.iter().all(|evidence| evidence.host != "edge-7"));
}

#[test]
fn members_that_see_different_noise_are_all_believed() {
    let mut play = Play::new();
    for member in 1..=20u32 {
        for noise in 0..100 {
            play.asks(member, source(member * 200 + noise), 23, Met::Closed);
        }
    }
    play.now += seconds(10);
    assert_eq!(play.correlator.tick(play.now), []);
}

#[test]
fn hosts_without_a_service_are_believed_while_it_is_out() {
    let mut play = Play::new();
    // Forty hosts; every second one has the service, and a hundred clients use two of those.
    let noise = |play: &mut Play, round: u32| {
        for member in 1..=40 {
            for number in 0..30 {
                play.asks(member, source(100_000 + round * 10_000 + member * 100 + number), 23, Met::Closed);
            }
            // Three of all sources come to everybody.
            play.asks(member, source(90_000 + round), 23, Met::Closed);
        }
    };
    for client in 0..1_000 {
        for step in 0..2 {
            play.asks(2 * (1 + (client + step) % 20), source(client), 443, Met::Open);
        }
    }
    noise(&mut play, 0);
    noise(&mut play, 1);
    for client in 0..1_000 {
        for step in 0..2 {
            play.asks(2 * (1 + (client + step) % 20), source(client), 443, Met::Closed);
        }
    }
    noise(&mut play, 2);
    play.now += seconds(10);
    assert_eq!(play.correlator.tick(play.now), []);
}

#[test]
fn few_sources_tell_nothing_of_a_member() {
    let mut play = Play::new();
    // Of what twenty see, others see a quarter; one has seen sixty sources alone, by chance.
    for member in 1..=20 {
        for noise in 0..45 {
            play.asks(member, source(member * 1_000 + noise), 23, Met::Closed);
        }
        for shared in 0..15 {
            play.asks(member, source(90_000 + shared), 23, Met::Closed);
        }
    }
    for noise in 0..60 {
        play.asks(21, source(50_000 + noise), 23, Met::Closed);
    }
    play.now += seconds(10);
    assert_eq!(play.correlator.tick(play.now), []);
}

#[test]
fn one_member_cannot_hide_a_scan_by_services_that_it_claims() {
    let mut play = Play::new();
    let open = |member: u32| Place(home(member), 6, 23);
    let batch = Batch { open: vec![open(1), open(2), open(3)], ..play.batch() };
    play.hear(1, &batch);
    for member in 2..=17 {
        play.asks(member, source(1), 23, Met::Closed);
    }
    assert_eq!(play.decided.len(), 1);
    // Two have it.
    let batch = Batch { open: vec![open(2)], ..play.batch() };
    play.hear(2, &batch);
    for member in 2..=17 {
        play.asks(member, source(2), 23, Met::Closed);
    }
    assert_eq!(play.decided.len(), 1);
}

#[test]
fn the_same_message_twice_changes_nothing() {
    let mut play = Play::new();
    for _ in 0..2 {
        play.number = 0;
        for member in 1..=8 {
            play.asks(member, source(1), 23, Met::Closed);
        }
    }
    assert_eq!(play.decided, []);
    assert_eq!(play.correlator.bounds().duplicates, 8);
}

#[test]
fn members_addresses_and_allowed_networks_are_never_decided_about() {
    let settings = Run { allow: vec!["203.0.113.2/32".parse().unwrap()], ..Run::default() };
    let mut play = Play::with(settings);
    let batch = Batch { own: vec![source(1).addr()], ..play.batch() };
    play.hear(1, &batch);
    for member in 1..=30 {
        for spared in [1, 2] {
            play.asks(member, source(spared), 23, Met::Closed);
        }
    }
    assert_eq!(play.decided, []);
    let said = play.correlator.explain(source(1), play.now).join("\n");
    assert!(said.contains("never decided about"), "{said}");
}

#[test]
fn more_bans_than_possible_are_suspicions() {
    let mut play = Play::new();
    for scanner in 0..150 {
        // One network each.
        let net = IpNet::new(Ipv4Addr::from(0x2d00_0000 + (scanner << 16)).into(), 32).unwrap();
        for member in 1..=16 {
            play.say(member, Sighting { proven: true, ..sighting(net, &[(member, 23, Met::Closed)]) });
        }
    }
    let bans = play.decided.iter().filter(|decision| decision.verdict == Verdict::Ban).count();
    assert_eq!((bans, play.decided.len()), (100, 150));
    assert_eq!(play.correlator.bounds().held_back, 50);
}

#[test]
fn forged_sources_push_out_no_source_that_several_saw() {
    let mut play = Play::with(Run { max_sources: 1_000, ..Run::default() });
    for member in 1..=8 {
        play.asks(member, source(1), 23, Met::Closed);
    }
    for forged in 100..20_000 {
        play.asks(forged % 20, source(forged), 23, Met::Closed);
    }
    assert_eq!(play.correlator.sources(), 1_000);
    assert!(play.correlator.bounds().evicted > 10_000);
    play.asks(9, source(1), 23, Met::Closed);
    assert_eq!(play.decided.len(), 1);
}

#[test]
fn who_takes_over_decides_nothing_again_and_forgets_nothing() {
    let mut play = Play::new();
    for member in 1..=16 {
        play.asks(member, source(1), 23, Met::Closed);
        play.asks(member, source(2), 23, if member < 16 { Met::Closed } else { Met::Open });
    }
    let first = play.decided.remove(0);
    let mut next = Play::new();
    next.correlator.resume(&first, START, START + seconds(10));
    next.now = START + seconds(10);
    for member in 1..=16 {
        next.asks(member, source(1), 23, Met::Closed);
    }
    assert!(next.decided.is_empty(), "{:?}", next.decided);
    assert_eq!(next.correlator.in_force(), 1);
}

#[test]
fn who_takes_over_decides_about_active_sources_only() {
    let mut play = Play::new();
    for (scanner, wait) in [(1, 20 * 60 * 60), (2, 60)] {
        for member in 1..=9 {
            let batch = Batch {
                sightings: vec![sighting(source(scanner), &[(member, 23, Met::Closed)])],
                ..play.batch()
            };
            play.correlator.take(&format!("edge-{member}"), &batch, play.now);
        }
        play.now += seconds(wait);
    }
    let decided = play.correlator.judge_active(1, play.now);
    assert_eq!(decided.iter().map(|decision| decision.source).collect::<Vec<_>>(), [source(2)]);
}

#[test]
fn what_is_too_old_is_forgotten() {
    let mut play = Play::new();
    for noise in 0..500 {
        play.asks(1, source(noise), 23, Met::Closed);
        play.asks(1, source(noise), 80, Met::Open);
    }
    play.now += seconds(25 * 60 * 60);
    for _ in 0..100 {
        play.correlator.tick(play.now);
        play.now += seconds(1);
    }
    assert_eq!(play.correlator.sources(), 0);
    assert!(play.correlator.places.is_empty() && play.correlator.served.is_empty());
    assert_eq!(play.correlator.members[0].places, 0);
}
