use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{Mode, cause::Cause, released::Released, responder::testing::*, testing::*},
    *,
};

fn decided(text: &str, decision: u64, seconds: u64) -> (IpNet, Cause) {
    let lasts = Duration::from_secs(seconds);
    (net(text), Cause::Crowdsec { decision, scenario: "crowdsecurity/ssh-bf".to_owned(), lasts })
}

fn lifts(nets: &[&str]) -> Lifts {
    Lifts::These(nets.iter().map(|text| net(text)).collect())
}

fn all_but(nets: &[&str]) -> Lifts {
    Lifts::AllBut(nets.iter().map(|text| net(text)).collect::<BTreeSet<_>>())
}

impl Bench {
    fn decide(&mut self, bans: Vec<(IpNet, Cause)>, lifts: Lifts, second: u64) {
        let decided = Decided { bans, lifts };
        take(&mut self.responder, decided, now(second), &mut self.enforcer);
    }

    fn origin(&self, text: &str) -> Option<&'static str> {
        self.responder.ban_table.get(net(text)).map(|ban| ban.origin.label())
    }
}

#[test]
fn whom_crowdsec_bans_is_banned_for_as_long_as_it_says_and_the_mode_decides_what_that_does() {
    let mut bench = Bench::new(Mode::DryRun);
    bench.decide(vec![decided("198.51.100.7/32", 1, 60), decided("203.0.113.0/24", 2, 600)], all_but(&[]), 0);
    assert_eq!(bench.enforcer("198.51.100.7/32"), Some((Some(60), false)));
    bench.set(Mode::Enforce, None, 10).unwrap();
    assert_eq!(bench.enforcer("198.51.100.7/32"), Some((Some(50), true)));
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((Some(590), true)));
    bench.chores(60);
    assert_eq!((bench.enforcer("198.51.100.7/32"), bench.origin("203.0.113.0/24")), (None, Some("crowdsec")));
}

#[test]
fn what_crowdsec_takes_back_ends_only_what_it_made() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.ban("198.51.100.1/32", Some(900)).unwrap();
    bench.find("198.51.100.2/32", 0);
    let all = ["198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32"];
    bench.decide(all.iter().map(|text| decided(text, 1, 60)).collect(), lifts(&[]), 0);
    assert_eq!(
        all.map(|text| bench.origin(text).unwrap()),
        ["hand", "rule", "crowdsec"],
        "the longer one holds"
    );
    bench.responder.take_released();
    bench.decide(vec![], lifts(&all), 1);
    assert_eq!(all.map(|text| bench.enforcer(text).is_some()), [true, true, false]);
    assert_eq!(
        bench.responder.take_released(),
        Some(Released::Networks([net(all[2])].into())),
        "what it did before is no ground for another ban"
    );
    // The same by an answer that lists all decisions in force.
    bench.decide(vec![decided(all[2], 2, 60), decided("198.51.100.4/32", 3, 60)], lifts(&[]), 2);
    bench.decide(vec![], all_but(&["198.51.100.4/32"]), 3);
    assert_eq!(all.map(|text| bench.enforcer(text).is_some()), [true, true, false]);
    assert!(bench.enforcer("198.51.100.4/32").is_some());
}

#[test]
fn who_is_never_banned_is_not_banned_by_crowdsec_and_no_room_is_made_for_it() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.settings.max_bans = 2;
    bench.find("198.51.100.2/32", 0);
    let bans = vec![
        decided("192.0.2.1/32", 1, 60),
        decided("192.0.0.0/16", 2, 60),
        decided("0.0.0.0/0", 3, 60),
        decided("198.51.100.3/32", 4, 60),
        decided("198.51.100.4/32", 5, 60),
    ];
    bench.decide(bans, all_but(&[]), 0);
    assert_eq!(bench.enforcer.bans.len(), 2);
    assert_eq!(
        (bench.origin("198.51.100.2/32"), bench.origin("198.51.100.3/32")),
        (Some("rule"), Some("crowdsec"))
    );
    // A finding of this host takes precedence.
    bench.find("198.51.100.5/32", 1);
    assert_eq!((bench.origin("198.51.100.5/32"), bench.origin("198.51.100.3/32")), (Some("rule"), None));
}

#[test]
fn what_the_kernel_does_not_take_is_not_believed_to_be_banned() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.enforcer.room = Some(1);
    bench.decide(vec![decided("198.51.100.3/32", 1, 60), decided("198.51.100.4/32", 2, 60)], lifts(&[]), 0);
    assert_eq!((bench.enforcer.bans.len(), bench.responder.ban_table.len(Extent::Full)), (1, 1));
}

#[test]
fn others_are_told_to_ban_only_whom_this_host_would() {
    use crate::detect::rules::testing::Script;
    let rules = crate::detect::rules::Settings::default().rules().rules;
    let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
    let mut script = Script::new(rule, crate::detect::settings::Settings::default());
    for port in 1..=40 {
        script.syn(7, 1, port);
    }
    let mut finding = script.events().remove(0).finding;
    let mut bench = Bench::new(Mode::Observe);
    let advice = |bench: &Bench, finding: &Finding| recommended(&bench.responder, finding);
    assert_eq!(advice(&bench, &finding), [(net("192.0.2.7/32"), false)], "it may be forged");
    bench.responder.settings.allow_spoofable = true;
    assert_eq!(advice(&bench, &finding), [(net("192.0.2.7/32"), true)], "whatever the mode");
    finding.source = std::net::IpAddr::from([192, 0, 2, 1]).into();
    assert_eq!(advice(&bench, &finding), [(net("192.0.2.1/32"), false)], "this host's own address");
    finding.source = Address::UNSPECIFIED;
    assert_eq!(advice(&bench, &finding), []);
}

#[test]
fn what_leaves_this_host_bans_nobody_and_is_not_reported() {
    use crate::detect::rules::outbound::testing::{OutScript, PROGRAM};
    let mut script = OutScript::all_rules();
    (0..60).for_each(|host| _ = script.ask(PROGRAM, host, 22));
    let mut finding = script.events().remove(0).finding;
    let mut bench = Bench::new(Mode::Enforce);
    let (now, response) = (now(1), &mut bench.enforcer);
    // Its rule may ban, its name in the kernel looks like an address, and a host behind this one has one.
    bench.responder.settings.rules.push(finding.rule.to_owned());
    for source in [finding.source, std::net::IpAddr::from([198, 51, 100, 7]).into()] {
        finding.source = source;
        bench.responder.consider(&finding, now, response);
        bench.responder.reconsider(&mut [finding.clone()].iter(), now, response);
        assert_eq!(recommended(&bench.responder, &finding), []);
    }
    assert!(bench.enforcer.bans.is_empty() && bench.enforcer.shields.is_empty());
}
