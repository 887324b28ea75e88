use super::{
    super::{
        cause::Origin,
        orders::{Order, OrderError},
        questions,
        testing::*,
    },
    testing::*,
    *,
};
use crate::{sensor::gate::GateMode, sources::Sources};

const SCANNER: &str = "198.51.100.7/32";

#[test]
fn what_was_banned_in_a_dry_run_never_drops() {
    let mut bench = Bench::new(Mode::DryRun);
    assert_eq!(bench.enforcer.gate, GateMode::DryRun);
    assert!(matches!(bench.find(SCANNER, 1), Decision::Ban(_)));
    assert_eq!(bench.enforcer(SCANNER), Some((Some(600), false)));
    bench.ban("203.0.113.0/24", None).unwrap();
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, false)));

    bench.set(Mode::Enforce, None, 2).unwrap();
    assert_eq!(bench.enforcer.gate, GateMode::Enforce);
    assert_eq!(bench.enforcer(SCANNER), None, "what the policy did in dry run is gone");
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, true)), "what was ordered holds");
    assert!(matches!(bench.find(SCANNER, 3), Decision::Ban(BanTerms { level: 0, .. })));
    assert_eq!(bench.enforcer(SCANNER), Some((Some(600), true)));

    bench.set(Mode::DryRun, None, 4).unwrap();
    assert_eq!(bench.enforcer(SCANNER), Some((Some(599), false)));
    bench.set(Mode::Observe, None, 5).unwrap();
    assert_eq!(bench.enforcer.gate, GateMode::Off);
    assert!(matches!(bench.find("198.51.100.8/32", 6), Decision::Refused(Refusal::Observing)));
}

#[test]
fn bans_end_and_the_next_one_is_longer() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find(SCANNER, 0);
    bench.chores(599);
    assert!(bench.enforcer(SCANNER).is_some());
    bench.chores(600);
    assert_eq!((bench.enforcer(SCANNER), bench.responder.ban_table.len(Extent::Full)), (None, 0));
    bench.find(SCANNER, 601);
    assert_eq!(bench.enforcer(SCANNER), Some((Some(3_600), true)));
}

#[test]
fn unconfirmed_enforcing_falls_back_and_its_bans_end_even_without_the_agent() {
    let mut bench = Bench::new(Mode::DryRun);
    bench.ban("203.0.113.0/24", None).unwrap();
    bench.set(Mode::Enforce, Some(30), 0).unwrap();
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((Some(30), true)));
    bench.find(SCANNER, 10);
    assert_eq!(bench.enforcer(SCANNER), Some((Some(20), true)));
    let saved = bench.responder.state(now(10)).mode;
    assert_eq!((saved.mode, saved.cause), (Mode::DryRun, ModeCause::Unconfirmed));
    bench.chores(29);
    assert_eq!(bench.responder.mode(), Mode::Enforce);
    bench.chores(30);
    assert_eq!((bench.responder.mode(), bench.enforcer.gate), (Mode::DryRun, GateMode::DryRun));
    assert_eq!(bench.responder.mode.cause, ModeCause::Unconfirmed);
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, false)));

    bench.set(Mode::Enforce, Some(30), 40).unwrap();
    bench.order(Order::Confirm, 50).unwrap();
    bench.chores(80);
    assert_eq!((bench.responder.mode(), bench.enforcer.gate), (Mode::Enforce, GateMode::Enforce));
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, true)));
    assert!(matches!(bench.order(Order::Confirm, 81), Err(OrderError::NothingToConfirm(Mode::Enforce))));
    for (mode, confirm) in [(Mode::DryRun, 30), (Mode::Enforce, 0), (Mode::Enforce, u64::MAX)] {
        assert_eq!(bench.set(mode, Some(confirm), 82), Err(OrderError::Confirm), "{mode} {confirm}");
    }
}

/// A storm: proven findings about one source in each of these networks.
fn storm(bench: &mut Bench, networks: std::ops::Range<u8>, second: u64) -> Vec<Decision> {
    networks.map(|network| bench.find(&format!("198.51.{network}.7/32"), second)).collect()
}

#[test]
fn a_storm_stops_new_bans_by_rules_and_nothing_else_and_is_over_by_itself() {
    let settings = Settings { max_per_minute: 4, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    bench.ban("203.0.113.0/24", None).unwrap();
    let decisions = storm(&mut bench, 0..6, 1);
    assert!(decisions[..4].iter().all(|decision| matches!(decision, Decision::Ban(_))));
    assert!(decisions[4..].iter().all(|one| matches!(one, Decision::Refused(Refusal::Breaker { max: 4 }))));
    assert_eq!((bench.responder.mode(), bench.enforcer.gate), (Mode::Enforce, GateMode::Enforce));
    assert_eq!(bench.enforcer.bans.len(), 5);
    assert!(bench.enforcer.bans.values().all(|(_, enforced)| *enforced), "all that there are hold");
    let status = questions::status(&bench.responder, now(2), None);
    assert!(status.circuit_breaker_open && status.mode_cause == ModeCause::Configuration);

    // A refused source gets a shield, and orders are carried out.
    assert_eq!(bench.shield("198.51.4.7/32"), Some((Some(600), true)));
    bench.ban("203.0.112.9/32", None).unwrap();
    assert!(bench.find_unproven(SHIELDED, 3) != Decision::Refused(Refusal::Breaker { max: 4 }));
    assert!(bench.shield(SHIELDED).is_some());

    // One goes on.
    for second in 3..=61 {
        bench.chores(second);
        assert!(questions::status(&bench.responder, now(second), None).circuit_breaker_open == (second < 61));
        storm(&mut bench, 5..6, second);
    }
    assert_eq!(
        (bench.enforcer("198.51.5.7/32"), bench.shield("198.51.5.7/32")),
        (Some((Some(600), true)), None)
    );
    assert!(matches!(storm(&mut bench, 4..5, 62)[..], [Decision::Ban(_)]));
}

#[test]
fn one_customer_with_many_prefixes_is_banned_and_stops_no_bans_of_others() {
    let settings = Settings { max_per_minute: 2, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    for subnet in 0..104 {
        assert!(
            matches!(bench.find(&format!("2001:db8:0:{subnet:x}::/64"), 1), Decision::Ban(_)),
            "{subnet}"
        );
    }
    assert!(matches!(bench.find(SCANNER, 1), Decision::Ban(_)));
    let status = questions::status(&bench.responder, now(1), None);
    assert!(!status.circuit_breaker_open && status.bans_last_minute == 2, "{status:?}");
}

#[test]
fn one_customer_with_many_prefixes_takes_a_share_of_the_places_and_ends_no_bans_of_others() {
    let settings = Settings { max_bans: 200, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    bench.find(SCANNER, 0);
    for subnet in 0..1_000 {
        bench.find(&format!("2001:db8:0:{subnet:x}::/64"), 1);
    }
    assert_eq!(bench.enforcer.bans.len(), 1 + 25);
    assert!(bench.enforcer(SCANNER).is_some() && bench.enforcer("2001:db8:0:3e7::/64").is_some());
    bench.ban("2001:db8:0:8000::/64", None).unwrap();
    assert_eq!(bench.enforcer.bans.len(), 1 + 25 + 1, "by hand there is room");
}

#[test]
fn a_refused_source_is_not_shielded_from_where_shields_are_off() {
    let settings = Settings { max_per_minute: 1, shield: false, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    storm(&mut bench, 0..3, 1);
    assert_eq!((bench.enforcer.bans.len(), bench.enforcer.shields.len()), (1, 0));
}

#[test]
fn who_sets_the_mode_closes_the_breaker() {
    let settings = Settings { max_per_minute: 1, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    storm(&mut bench, 0..3, 1);
    bench.set(Mode::Enforce, None, 3).unwrap();
    assert!(!questions::status(&bench.responder, now(3), None).circuit_breaker_open);
    assert!(matches!(storm(&mut bench, 2..3, 4)[..], [Decision::Ban(_)]));
}

#[test]
fn the_fallback_of_an_earlier_version_holds_until_somebody_sets_the_mode() {
    let mut state = Bench::new(Mode::Enforce).responder.state(now(1));
    (state.mode.mode, state.mode.cause) = (Mode::DryRun, ModeCause::CircuitBreaker);
    let mut again = Bench::restored(settings(Mode::Enforce), Some(state), 2, FakeEnforcer::default());
    let status = questions::status(&again.responder, now(2), None);
    assert!(status.mode == Mode::DryRun && status.mode_cause == ModeCause::CircuitBreaker, "{status:?}");
    assert!(!status.circuit_breaker_open);
    again.set(Mode::Enforce, None, 3).unwrap();
    assert_eq!(again.enforcer.gate, GateMode::Enforce);
}

#[test]
fn orders_are_carried_out_or_refused_with_the_reason() {
    let mut bench = Bench::new(Mode::Enforce);
    let said = |result: Result<crate::respond::report::Done, OrderError>| match result {
        Ok(done) => [vec![done.said], done.notes].concat().join("; "),
        Err(error) => format!("no: {error}"),
    };
    assert_eq!(said(bench.ban(SCANNER, Some(60))), "198.51.100.7 is banned for 1m");
    assert_eq!(bench.enforcer(SCANNER), Some((Some(60), true)));
    let own = said(bench.ban("192.0.2.1/32", None));
    assert_eq!(own, "no: 192.0.2.1 is not banned: 192.0.2.1 is never banned: it is this host's own address");
    assert!(said(bench.ban("198.51.100.9/24", None)).contains("is 198.51.100.0/24 meant"));
    assert!(said(bench.ban(SCANNER, Some(0))).contains("a ban lasts from 1s"));
    bench.ban("203.0.113.0/24", None).unwrap();
    let part = said(bench.order(Order::Unban { net: net("203.0.113.9/32") }, 1));
    assert!(part.starts_with("no: 203.0.113.9 is banned only as part of 203.0.113.0/24"), "{part}");
    let none = said(bench.order(Order::Unban { net: net("192.0.2.99/32") }, 1));
    assert_eq!(none, "no: 192.0.2.99 is not banned");
    let lifted = said(bench.order(Order::Allow { net: net("198.51.100.0/24") }, 1));
    assert_eq!(
        lifted,
        "198.51.100.0/24 is never banned; bans and shields that were ended: 1, of 198.51.100.7"
    );
    assert_eq!(bench.enforcer(SCANNER), None);
    assert!(bench.enforcer.allowed.contains(&net("198.51.100.0/24")));
    assert!(said(bench.ban(SCANNER, None)).contains("allowed by hand"));
    assert!(matches!(bench.find(SCANNER, 2), Decision::Refused(Refusal::Allowed { .. })));
    let own = said(bench.order(Order::Disallow { net: net("192.0.2.1/32") }, 1));
    assert!(own.contains("own address"), "{own}");
    for (asked, answer) in [
        (
            "198.51.100.7/32",
            "no: 198.51.100.7 is allowed by hand only as part of 198.51.100.0/24: `scanguard disallow 198.51.100.0/24` \
             takes that back",
        ),
        (
            "198.51.0.0/16",
            "no: 198.51.0.0/16 is allowed by hand not as a whole: only 198.51.100.0/24: `scanguard disallow \
             198.51.100.0/24` takes that back",
        ),
        (
            "198.51.100.7/24",
            "no: 198.51.100.7/24 has bits beyond its prefix; is 198.51.100.0/24 meant, or the address 198.51.100.7?",
        ),
        (
            "192.0.2.0/24",
            "no: 192.0.2.0/24 is not allowed by hand; 192.0.2.1 is never banned: it is this host's own address",
        ),
        ("203.0.113.200/32", "no: 203.0.113.200 is not allowed by hand"),
    ] {
        assert_eq!(said(bench.order(Order::Disallow { net: net(asked) }, 1)), answer);
    }
    bench.order(Order::Disallow { net: net("198.51.100.0/24") }, 1).unwrap();
    assert!(!bench.enforcer.allowed.contains(&net("198.51.100.0/24")));
    assert!(said(bench.order(Order::Allow { net: net("0.0.0.0/0") }, 1)).contains("contains all addresses"));
    assert_eq!(
        said(bench.order(Order::Unban { net: net("203.0.113.0/24") }, 2)),
        "203.0.113.0/24 is no longer banned"
    );
}

#[test]
fn who_is_allowed_is_told_to_the_kernel_until_it_takes_it() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.enforcer.refuses_allowed = true;
    let allow = Order::Allow { net: net(SCANNER) };
    assert!(
        matches!(bench.order(allow.clone(), 1), Err(OrderError::NotInKernel(why)) if why.contains("ALLOWED"))
    );
    assert!(matches!(bench.find(SCANNER, 2), Decision::Refused(Refusal::Allowed { .. })));
    assert!(matches!(bench.order(allow, 3), Err(OrderError::NotInKernel(_))), "asked for again");
    bench.chores(4);
    assert!(!bench.enforcer.allowed.contains(&net(SCANNER)));
    bench.enforcer.refuses_allowed = false;
    bench.chores(5);
    assert!(bench.enforcer.allowed.contains(&net(SCANNER)));
}

#[test]
fn one_address_of_a_banned_ipv6_prefix_names_it() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find("2001:db8::/64", 0);
    let done = bench.order(Order::Unban { net: net("2001:db8::7/128") }, 1).unwrap();
    assert_eq!(done.said, "2001:db8::/64 is no longer banned");
    assert!(bench.enforcer.bans.is_empty());
}

#[test]
fn a_full_kernel_map_is_said_and_the_book_does_not_lie() {
    let enforcer = FakeEnforcer { room: Some(0), ..FakeEnforcer::default() };
    let mut bench = Bench::restored(settings(Mode::Enforce), None, 0, enforcer);
    match bench.ban(SCANNER, None) {
        Err(OrderError::Refused { refusal: Refusal::Kernel(why), .. }) => {
            assert!(why.contains("BANS"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(bench.responder.ban_table.is_empty());
}

#[test]
fn the_ban_that_ends_soonest_makes_room() {
    let settings = Settings { max_bans: 2, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    bench.ban("203.0.113.1/32", Some(5)).unwrap();
    bench.find("198.51.100.1/32", 0);
    bench.find("198.51.100.2/32", 1);
    assert_eq!((bench.enforcer("198.51.100.1/32"), bench.responder.ban_table.len(Extent::Full)), (None, 2));
    bench.enforcer.room = Some(2);
    assert!(matches!(bench.find("198.51.100.3/32", 2), Decision::Refused(Refusal::Kernel(_))));
    assert!(bench.enforcer("198.51.100.2/32").is_some(), "it went for one that was not made");
    assert_eq!(bench.responder.ban_table.len(Extent::Full), 2);
}

#[test]
fn everything_that_is_to_last_outlives_a_restart() {
    let mut bench = Bench::new(Mode::DryRun);
    bench.set(Mode::Enforce, None, 0).unwrap();
    bench.find(SCANNER, 0);
    bench.find("198.51.100.9/32", 90);
    bench.ban("203.0.113.0/24", None).unwrap();
    bench.ban("192.0.2.200/32", None).unwrap();
    bench.order(Order::Allow { net: net("198.51.100.128/25") }, 1).unwrap();
    assert!(bench.responder.take_dirty() && !bench.responder.take_dirty());
    let state = bench.responder.state(now(100));

    // The earlier content of the kernel belongs to another agent or is out of date.
    let enforcer =
        FakeEnforcer { bans: [(net("10.9.9.9/32"), (None, true))].into(), ..FakeEnforcer::default() };
    let mut again = Bench::restored(settings(Mode::DryRun), Some(state.clone()), 650, enforcer);
    assert_eq!(again.responder.mode(), Mode::Enforce);
    again.chores(650);
    let expected: Vec<_> = ["192.0.2.200/32", "198.51.100.9/32", "203.0.113.0/24"].map(net).to_vec();
    assert_eq!(again.enforcer.banned(Extent::Full), expected);
    assert_eq!(again.enforcer("198.51.100.9/32"), Some((Some(40), true)));
    again.find(SCANNER, 651);
    assert_eq!(again.enforcer(SCANNER), Some((Some(3_600), true)), "it is remembered");
    assert!(again.enforcer.allowed.contains(&net("198.51.100.128/25")));

    let changed = Bench::restored(settings(Mode::Observe), Some(state), 650, FakeEnforcer::default());
    assert_eq!(changed.responder.mode(), Mode::Observe, "the file was changed: that holds");
}

#[test]
fn a_ban_that_a_clock_wrote_which_ran_ahead_lasts_as_long_as_was_left() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find(SCANNER, 1_000_000);
    let state = bench.responder.state(now(1_000_100));
    let mut again = Bench::restored(settings(Mode::Enforce), Some(state), 50, FakeEnforcer::default());
    assert_eq!(again.enforcer(SCANNER), Some((Some(500), true)));
    again.chores(550);
    assert_eq!(again.enforcer(SCANNER), None);
}

#[test]
fn other_settings_change_no_bans_and_the_mode_only_if_theirs_does() {
    let mut bench = Bench::new(Mode::DryRun);
    bench.set(Mode::Enforce, None, 0).unwrap();
    bench.find(SCANNER, 1);
    let drop_all = Settings { drop: Drop::All, max_bans: 1, ..settings(Mode::DryRun) };
    bench.responder.reconfigure(drop_all.clone(), now(2), &mut bench.enforcer);
    assert_eq!((bench.enforcer.gate, bench.enforcer.drop_all), (GateMode::Enforce, true));
    assert_eq!(bench.enforcer(SCANNER), Some((Some(600), true)));
    let observe = Settings { mode: Mode::Observe, ..drop_all };
    bench.responder.reconfigure(observe, now(3), &mut bench.enforcer);
    assert_eq!((bench.enforcer.gate, bench.responder.mode()), (GateMode::Off, Mode::Observe));
    assert_eq!(bench.responder.ban_table.len(Extent::Full), 1);
}

#[test]
fn networks_on_feeds_are_banned_beside_the_book_but_for_those_who_are_allowed() {
    use crate::{detect::feeds::Feeds, respond::settings::KnownBad};
    let path = std::env::temp_dir().join(format!("scanguard-respond-{}.netset", std::process::id()));
    std::fs::write(&path, "198.51.100.7\n203.0.113.0/24\n192.0.2.0/24\n").unwrap();
    let (feeds, problems) = Feeds::load(std::slice::from_ref(&path), &Feeds::default());
    std::fs::remove_file(&path).unwrap();
    assert!(problems.is_empty());
    let mut bench = Bench::new(Mode::DryRun);
    bench.responder.set_feeds(&feeds, now(0), &mut bench.enforcer);
    assert!(bench.enforcer.bans.is_empty(), "they are observed only");

    let dropping = Settings { known_bad: KnownBad::Drop, ..settings(Mode::DryRun) };
    bench.responder.reconfigure(dropping, now(1), &mut bench.enforcer);
    assert_eq!(bench.enforcer(SCANNER), Some((Some(86_400), false)));
    assert_eq!(bench.enforcer("192.0.2.0/24"), None, "an own address is in it");
    bench.set(Mode::Enforce, None, 2).unwrap();
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((Some(86_400), true)));

    bench.ban(SCANNER, Some(60)).unwrap();
    assert_eq!(bench.enforcer(SCANNER), Some((Some(60), true)));
    bench.chores(60);
    assert_eq!(bench.enforcer(SCANNER), Some((Some(86_400), true)), "the list goes on");
    match bench.order(Order::Unban { net: net("203.0.113.9/32") }, 61) {
        Err(error @ OrderError::Listed { .. }) => {
            assert!(error.to_string().contains("scanguard allow 203.0.113.9"));
        }
        other => panic!("{other:?}"),
    }
    let explanation = questions::explain(
        &bench.responder,
        "203.0.113.9".parse().unwrap(),
        &mut std::iter::empty(),
        now(61),
        &bench.enforcer,
    );
    assert!(
        explanation.banned && explanation.dropped && explanation.verdict.contains("lists 203.0.113.0/24")
    );
    bench.order(Order::Allow { net: net("203.0.113.9/32") }, 62).unwrap();
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((Some(86_400), true)), "it spares an allowed address");
    bench.order(Order::Allow { net: net("203.0.113.0/24") }, 62).unwrap();
    assert_eq!(bench.enforcer("203.0.113.0/24"), None, "all of it is allowed");
    bench.set(Mode::Observe, None, 63).unwrap();
    assert!(bench.enforcer.bans.is_empty());
}

#[test]
fn until_enforcing_is_confirmed_networks_on_feeds_are_banned_no_longer_than_there_is_time_to_confirm_it() {
    use crate::{detect::feeds::Feeds, respond::settings::KnownBad};
    let [other, later] = ["203.0.113.0/24", "203.0.114.0/24"];
    let dropping = Settings { known_bad: KnownBad::Drop, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(dropping, None, 0, FakeEnforcer::default());
    let list = |text: &str| Feeds::parse("list", text).0;
    bench.responder.set_feeds(&list("198.51.100.7\n203.0.113.0/24\n"), now(0), &mut bench.enforcer);
    assert_eq!(bench.enforcer(other), Some((Some(86_400), true)));
    bench.set(Mode::Enforce, Some(30), 10).unwrap();
    assert_eq!(bench.enforcer(other), Some((Some(30), true)), "what was banned before");
    let longer = list("198.51.100.7\n203.0.113.0/24\n203.0.114.0/24\n");
    bench.responder.set_feeds(&longer, now(15), &mut bench.enforcer);
    assert_eq!(bench.enforcer(later), Some((Some(25), true)), "what is listed since");
    bench.ban(SCANNER, Some(60)).unwrap();
    bench.order(Order::Unban { net: net(SCANNER) }, 20).unwrap();
    assert_eq!(bench.enforcer(SCANNER), Some((Some(20), true)), "what is handed back to the list");
    bench.order(Order::Confirm, 30).unwrap();
    assert_eq!([other, later, SCANNER].map(|text| bench.enforcer(text)), [Some((Some(86_400), true)); 3]);
}

#[test]
fn it_is_explained_why_somebody_is_banned_or_not() {
    let mut bench = Bench::new(Mode::Enforce);
    let verdict = |bench: &Bench, text: &str, second| {
        let ip = text.parse().unwrap();
        questions::explain(&bench.responder, ip, &mut std::iter::empty(), now(second), &bench.enforcer)
            .verdict
    };
    assert_eq!(verdict(&bench, "198.51.100.7", 0), "not banned: there is no open finding of it");
    let own = verdict(&bench, "192.0.2.1", 0);
    assert_eq!(own, "not banned, and never will be: it is this host's own address (192.0.2.1)");
    bench.find(SCANNER, 0);
    assert_eq!(
        verdict(&bench, "198.51.100.7", 60),
        "banned by rule vertical_scan (finding 1-0) for 9m more, as 198.51.100.7: banned for 10m: vertical_scan, \
         confidence high: 40 syn probes; its packets are dropped"
    );
    assert_eq!(
        questions::bans(&bench.responder, None, now(60), &bench.enforcer).bans[0].origin.label(),
        "rule"
    );
    assert_eq!(bench.responder.ban_table.bans().next().unwrap().origin.label(), Origin::LABELS[0]);
}

#[test]
fn bans_in_the_kernel_are_taken_over_where_the_state_file_is_lost_and_lifted_where_it_is_not() {
    let found = || {
        let mut enforcer = FakeEnforcer::default();
        for (text, left, enforced) in [
            (SCANNER, Some(300), true),
            ("203.0.113.0/24", None, true),
            ("198.51.100.8/32", Some(0), true),
            ("198.51.100.9/32", Some(60), false),
            ("192.0.2.0/24", None, true),
        ] {
            enforcer.bans.insert(net(text), (left.map(Duration::from_secs), enforced));
        }
        enforcer
    };
    let bench = Bench::restored(settings(Mode::Enforce), None, 7, found());
    assert_eq!(bench.enforcer(SCANNER), Some((Some(300), true)));
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, true)));
    assert_eq!(
        bench.enforcer.bans.len(),
        2,
        "one was over, one only counted, one is never banned: {:?}",
        bench.enforcer.bans
    );
    let ban = bench.responder.ban_table.get(net(SCANNER)).unwrap();
    assert_eq!((ban.origin.clone(), ban.ends), (Origin::Adopted, Some(Duration::from_secs(307))));

    let known = Bench::new(Mode::Enforce).responder.state(now(0));
    let bench = Bench::restored(settings(Mode::Enforce), Some(known.clone()), 7, found());
    assert_eq!((bench.enforcer.bans.len(), bench.responder.ban_table.len(Extent::Full)), (0, 0));

    // The networks that the earlier agent spared are as important as those that it banned.
    let sparing = || {
        let allowed = ["192.0.2.1/32", "203.0.113.9/32", "198.51.100.128/25"].map(net).into();
        FakeEnforcer { allowed, ..found() }
    };
    let mut bench = Bench::restored(settings(Mode::Enforce), None, 7, sparing());
    assert_eq!(bench.enforcer.allowed, sparing().allowed);
    assert_eq!(bench.responder.allowed.by_hand.len(), 2, "this host's own address is on the list anyway");
    assert_eq!(bench.enforcer("203.0.113.0/24"), Some((None, true)), "it goes on, and spares one of them");
    bench.order(Order::Disallow { net: net("203.0.113.9/32") }, 8).unwrap();
    let bench = Bench::restored(settings(Mode::Enforce), Some(known), 7, sparing());
    assert_eq!(bench.enforcer.allowed, [net("192.0.2.1/32")].into());

    let small = Settings { max_bans: 1, ..settings(Mode::Enforce) };
    let bench = Bench::restored(small, None, 7, found());
    assert_eq!((bench.enforcer.bans.len(), bench.responder.ban_table.len(Extent::Full)), (1, 1));
}

#[test]
fn networks_on_feeds_that_the_kernel_did_not_take_are_tried_again_ever_more_seldom() {
    let settings = Settings { known_bad: super::super::settings::KnownBad::Drop, ..settings(Mode::Enforce) };
    let mut bench =
        Bench::restored(settings, None, 0, FakeEnforcer { room: Some(0), ..FakeEnforcer::default() });
    let (feeds, _) = Feeds::parse("list", SCANNER);
    bench.responder.set_feeds(&feeds, now(0), &mut bench.enforcer);
    bench.chores(1);
    bench.enforcer.room = None;
    bench.chores(2);
    assert_eq!(bench.enforcer(SCANNER), None, "two seconds after the second time");
    bench.chores(3);
    assert_eq!(bench.enforcer(SCANNER), Some((Some(86_400), true)));
    bench.enforcer.bans.clear();
    bench.chores(3 + 6 * 3_600 - 1);
    assert_eq!(bench.enforcer(SCANNER), None, "what was taken is handed on anew only now and then");
    bench.chores(3 + 6 * 3_600);
    assert!(bench.enforcer(SCANNER).is_some());
}

#[test]
fn feeds_have_the_places_that_bans_do_not_need_and_what_two_of_them_list_takes_one() {
    // Every other address, so that no networks are joined.
    let first = u32::from(std::net::Ipv4Addr::new(11, 0, 0, 0));
    let lines: Vec<_> =
        (0..60_000).map(|place| std::net::Ipv4Addr::from(first + 2 * place).to_string()).collect();
    let paths = ["one", "other"]
        .map(|name| std::env::temp_dir().join(format!("scanguard-places-{name}-{}", std::process::id())));
    for path in &paths {
        std::fs::write(path, lines.join("\n")).unwrap();
    }
    let (feeds, _) = Feeds::load(&paths, &Feeds::default());
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let taken = |max_bans| {
        let known_bad = super::super::settings::KnownBad::Drop;
        let settings = Settings { known_bad, max_bans, ..settings(Mode::Enforce) };
        let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
        bench.responder.set_feeds(&feeds, now(0), &mut bench.enforcer);
        (bench.enforcer.bans.len(), bench.responder.feeds.taken().left_out)
    };
    assert_eq!(taken(5_000), (60_000, 0));
    assert_eq!(taken(60_000), (5_535, 2 * (60_000 - 5_535)));
}

#[test]
fn networks_of_feeds_stay_banned_when_the_kernel_is_brought_to_what_the_book_says() {
    let path = std::env::temp_dir().join(format!("scanguard-feed-at-start-{}", std::process::id()));
    std::fs::write(&path, "198.51.100.0/24\n").unwrap();
    let (feeds, problems) = Feeds::load(std::slice::from_ref(&path), &Feeds::default());
    std::fs::remove_file(&path).unwrap();
    assert!(problems.is_empty());
    let settings = Settings { known_bad: super::super::settings::KnownBad::Drop, ..settings(Mode::Enforce) };
    let mut bench = Bench {
        responder: Responder::new(settings, Sources::new(64, &[]), None, metrics(), now(0)),
        enforcer: FakeEnforcer::default(),
    };
    bench.responder.set_feeds(&feeds, now(0), &mut bench.enforcer);
    bench.responder.enter(now(0), &mut bench.enforcer).unwrap();
    assert!(
        bench.enforcer("198.51.100.0/24").is_some_and(|(_, enforced)| enforced),
        "{:?}",
        bench.enforcer.bans
    );
}

#[test]
fn the_kernel_is_told_whom_to_hold_as_mode_settings_and_the_breaker_change() {
    let mut bench = Bench::new(Mode::Observe);
    let plain = Plain { rule: "sequential_test", services: 9, window: Duration::from_secs(600) };
    bench.responder.set_plain(vec![plain], now(0), &mut bench.enforcer);
    assert_eq!(bench.enforcer.reflex, None);
    bench.set(Mode::Enforce, None, 1).unwrap();
    assert_eq!(bench.enforcer.reflex.map(|reflex| reflex.most), Some(100));
    let few = Settings { max_per_minute: 2, ..settings(Mode::Enforce) };
    bench.responder.reconfigure(few.clone(), now(2), &mut bench.enforcer);
    storm(&mut bench, 0..3, 3);
    assert_eq!(bench.enforcer.reflex.map(|reflex| reflex.most), Some(2), "a storm disarms no shields");
    // Without shields the kernel would hold sources about which nothing is done.
    let no_shields = Settings { shield: false, allow_spoofable: true, ..few };
    bench.responder.reconfigure(no_shields, now(4), &mut bench.enforcer);
    assert_eq!(bench.enforcer.reflex, None);
    bench.chores(63);
    assert!(bench.enforcer.reflex.is_some(), "the storm is over");
    let off = Settings { reflex: Duration::ZERO, ..settings(Mode::Enforce) };
    bench.responder.reconfigure(off, now(64), &mut bench.enforcer);
    assert_eq!(bench.enforcer.reflex, None);
    bench.responder.reconfigure(settings(Mode::Enforce), now(65), &mut bench.enforcer);
    assert!(bench.enforcer.reflex.is_some());
    bench.set(Mode::Observe, None, 66).unwrap();
    assert_eq!(bench.enforcer.reflex, None);
}

#[test]
fn who_begins_anew_is_handed_on_once() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.take_released();
    let [by_hand, by_time] = ["198.51.100.8/32", "198.51.100.9/32"];
    bench.ban(by_hand, None).unwrap();
    bench.order(Order::Unban { net: net(by_hand) }, 1).unwrap();
    bench.ban(by_time, Some(10)).unwrap();
    bench.chores(11);
    let released = bench.responder.take_released().unwrap();
    assert_eq!(released, Released::Networks([by_hand, by_time].map(net).into()));
    assert!(released.has(net(by_hand)) && !released.has(net("198.51.100.10/32")));
    assert_eq!(bench.responder.take_released(), None);
    bench.set(Mode::DryRun, None, 12).unwrap();
    assert_eq!(bench.responder.take_released(), None, "nothing is dropped");
    bench.set(Mode::Enforce, None, 13).unwrap();
    assert_eq!(bench.responder.take_released(), Some(Released::All));
}

/// A source with a shield, on evidence that may be forged.
const SHIELDED: &str = "198.51.100.66/32";

#[test]
fn a_shield_is_made_renewed_while_its_source_goes_on_and_leaves_nothing_behind() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.take_released();
    bench.find_unproven(SHIELDED, 0);
    assert_eq!((bench.enforcer(SHIELDED), bench.shield(SHIELDED)), (None, Some((Some(600), true))));
    let ends = |bench: &Bench| bench.responder.ban_table.get(net(SHIELDED)).and_then(|ban| ban.ends);
    bench.find_unproven(SHIELDED, 200);
    assert_eq!(ends(&bench), Some(Duration::from_secs(600)), "it stands");
    bench.find_unproven(SHIELDED, 400);
    assert_eq!(ends(&bench), Some(Duration::from_secs(1_000)), "it is renewed");
    bench.chores(999);
    assert!(bench.shield(SHIELDED).is_some());
    bench.chores(1_000);
    assert_eq!((bench.shield(SHIELDED), bench.responder.ban_table.is_empty()), (None, true));
    assert_eq!(bench.responder.take_released(), None, "its source does not begin anew");
    bench.find(SHIELDED, 1_001);
    assert_eq!(bench.enforcer(SHIELDED), Some((Some(600), true)), "the first ban, not the second");
}

#[test]
fn a_ban_takes_the_place_of_a_shield_and_a_shield_of_none() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find_unproven(SHIELDED, 0);
    bench.find(SHIELDED, 1);
    assert_eq!((bench.enforcer(SHIELDED), bench.shield(SHIELDED)), (Some((Some(600), true)), None));
    assert!(matches!(bench.find_unproven(SHIELDED, 2), Decision::Stands { extent: Extent::Full, .. }));
    bench.find_unproven("198.51.100.67/32", 2);
    bench.ban("198.51.100.67/32", None).unwrap();
    assert_eq!(bench.shield("198.51.100.67/32"), None);
    assert_eq!(bench.enforcer("198.51.100.67/32"), Some((None, true)), "by hand it is a ban");
}

#[test]
fn forged_scans_without_number_ban_nobody_open_no_breaker_and_take_no_bans_place() {
    let settings = Settings { max_bans: 1, max_shields: 3, max_per_minute: 2, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    bench.find(SCANNER, 0);
    for host in 1..=200 {
        bench.find_unproven(&format!("203.0.113.{host}/32"), host);
    }
    assert_eq!((bench.enforcer.bans.len(), bench.enforcer.shields.len()), (1, 3));
    assert!(bench.enforcer(SCANNER).is_some() && bench.shield("203.0.113.200/32").is_some());
    let status = questions::status(&bench.responder, now(200), None);
    assert!(!status.circuit_breaker_open && status.mode == Mode::Enforce, "{status:?}");
    assert_eq!((status.bans.rule, status.shields.held, status.shields.most), (1, 3, 3));
    assert!(matches!(bench.find("198.51.100.8/32", 201), Decision::Ban(_)));
    assert_eq!(bench.responder.ban_table.len(Extent::Shield), 3);
}

#[test]
fn shields_outlive_a_restart_and_what_the_kernel_has_of_them_a_lost_state_file() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find_unproven(SHIELDED, 0);
    bench.find(SCANNER, 0);
    let state = bench.responder.state(now(100));
    let again = Bench::restored(settings(Mode::Enforce), Some(state), 100, FakeEnforcer::default());
    assert_eq!(again.shield(SHIELDED), Some((Some(500), true)));
    assert_eq!((again.enforcer(SCANNER), again.enforcer(SHIELDED)), (Some((Some(500), true)), None));

    let shields = || [(net(SHIELDED), (Some(Duration::from_secs(300)), true))].into();
    let enforcer = || FakeEnforcer { shields: shields(), ..FakeEnforcer::default() };
    let adopted = Bench::restored(settings(Mode::Enforce), None, 7, enforcer());
    assert_eq!(adopted.shield(SHIELDED), Some((Some(300), true)));
    assert_eq!(adopted.responder.ban_table.get(net(SHIELDED)).unwrap().origin, Origin::Adopted);
    let known = Bench::new(Mode::Enforce).responder.state(now(0));
    let lifted = Bench::restored(settings(Mode::Enforce), Some(known), 7, enforcer());
    assert_eq!((lifted.shield(SHIELDED), lifted.responder.ban_table.is_empty()), (None, true));
}

#[test]
fn shields_without_room_are_not_restored_and_those_of_another_prefix_length_are() {
    let mut bench = Bench::new(Mode::Enforce);
    for text in ["2001:db8::/64", "198.51.100.1/32", "198.51.100.2/32"] {
        bench.find_unproven(text, 0);
    }
    let state = bench.responder.state(now(1));
    let few = Settings { max_shields: 1, ..settings(Mode::Enforce) };
    let again = Bench::restored(few, Some(state.clone()), 2, FakeEnforcer::default());
    assert_eq!(again.enforcer.shields.len(), 1);
    // The prefix length of IPv6 sources has changed.
    let mut enforcer = FakeEnforcer::default();
    let mut responder =
        Responder::new(settings(Mode::Enforce), Sources::new(56, &[]), Some(state), metrics(), now(2));
    responder.enter(now(2), &mut enforcer).unwrap();
    assert_eq!(
        enforcer.banned(Extent::Shield),
        ["198.51.100.1/32", "198.51.100.2/32", "2001:db8::/64"].map(net).to_vec()
    );
}

#[test]
fn a_dry_run_shields_dry_and_nothing_of_it_is_left_when_enforcing_begins() {
    let mut bench = Bench::new(Mode::DryRun);
    bench.find_unproven(SHIELDED, 0);
    assert_eq!(bench.shield(SHIELDED), Some((Some(600), false)));
    bench.set(Mode::Enforce, None, 1).unwrap();
    assert_eq!((bench.shield(SHIELDED), bench.responder.ban_table.is_empty()), (None, true));
    bench.find_unproven(SHIELDED, 2);
    assert_eq!(bench.shield(SHIELDED), Some((Some(600), true)));
    bench.set(Mode::DryRun, None, 3).unwrap();
    assert_eq!(bench.shield(SHIELDED), Some((Some(599), false)));
}

#[test]
fn shields_are_lifted_by_hand_and_then_their_source_begins_anew() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.take_released();
    bench.find_unproven(SHIELDED, 0);
    let done = bench.order(Order::Unban { net: net(SHIELDED) }, 1).unwrap();
    assert_eq!(done.said, "198.51.100.66 is no longer shielded from");
    assert_eq!(bench.shield(SHIELDED), None);
    assert!(bench.responder.take_released().is_some_and(|released| released.has(net(SHIELDED))));
    bench.find_unproven(SHIELDED, 2);
    let done = bench.order(Order::Allow { net: net("198.51.100.0/24") }, 3).unwrap();
    assert_eq!(done.notes, ["bans and shields that were ended: 1, of 198.51.100.66"]);
    assert!(bench.enforcer.shields.is_empty() && bench.responder.ban_table.is_empty());
}

#[test]
fn the_state_file_is_written_for_shields_only_now_and_then() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.take_dirty();
    bench.find_unproven(SHIELDED, 1);
    bench.chores(2);
    assert!(!bench.responder.take_dirty(), "whoever forges addresses makes ever new ones");
    bench.chores(31);
    assert!(bench.responder.take_dirty() && !bench.responder.take_dirty());
    bench.find_unproven("198.51.100.67/32", 32);
    bench.responder.keep_shields();
    assert!(bench.responder.take_dirty(), "before the agent ends");
    bench.find(SCANNER, 32);
    assert!(bench.responder.take_dirty(), "a ban is written at once");
}

#[test]
fn it_is_said_which_of_the_two_it_is() {
    let mut bench = Bench::new(Mode::Enforce);
    bench.find_unproven(SHIELDED, 0);
    bench.find(SCANNER, 10);
    bench.find_unproven("198.51.100.67/32", 20);
    let explain = |bench: &Bench, text: &str| {
        questions::explain(
            &bench.responder,
            text.parse().unwrap(),
            &mut std::iter::empty(),
            now(60),
            &bench.enforcer,
        )
    };
    let shielded = explain(&bench, "198.51.100.66");
    assert_eq!((shielded.response, shielded.banned, shielded.dropped), (Some(Extent::Shield), false, false));
    assert_eq!(
        shielded.verdict,
        "shielded from by rule vertical_scan (finding 1-0) for 9m more, as 198.51.100.66: shielded from for 10m: \
         vertical_scan, confidence high: 40 syn probes; those of its packets that meet no service here are dropped, all \
         others pass"
    );
    let banned = explain(&bench, "198.51.100.7");
    assert_eq!((banned.response, banned.banned, banned.dropped), (Some(Extent::Full), true, true));
    let all = questions::bans(&bench.responder, None, now(60), &bench.enforcer).bans;
    assert_eq!(all.iter().map(|ban| ban.response.label()).collect::<Vec<_>>(), ["ban", "shield", "shield"]);
    // There may be thousands of shields, but they do not push bans off a list of limited length.
    let first = questions::bans(&bench.responder, Some(2), now(60), &bench.enforcer).bans;
    let first: Vec<_> = first.iter().map(|ban| ban.net).collect();
    assert_eq!(first, [net(SCANNER), net("198.51.100.67/32")]);
    use crate::respond::report::BanState;
    let states = ["198.51.100.66/32", "198.51.100.7/32", "198.51.100.8/32"];
    assert_eq!(
        states.map(|text| questions::ban_state(&bench.responder, net(text))),
        [BanState::Shielded, BanState::Dropped, BanState::None]
    );
    let text = crate::cli::control::words::explanation(&shielded);
    assert!(text.starts_with("198.51.100.66: shielded from by rule"), "{text}");
}

#[test]
fn what_a_feed_lists_stays_banned_whatever_shield_there_is() {
    let settings = Settings { known_bad: super::super::settings::KnownBad::Drop, ..settings(Mode::Enforce) };
    let mut bench = Bench::restored(settings, None, 0, FakeEnforcer::default());
    bench.find_unproven(SHIELDED, 0);
    let (feeds, _) = Feeds::parse("list", SHIELDED);
    bench.responder.set_feeds(&feeds, now(1), &mut bench.enforcer);
    assert_eq!(bench.enforcer(SHIELDED), Some((Some(86_400), true)));
    let ip = "198.51.100.66".parse().unwrap();
    let explained =
        questions::explain(&bench.responder, ip, &mut std::iter::empty(), now(1), &bench.enforcer);
    assert!(explained.response == Some(Extent::Full) && explained.dropped, "{explained:?}");
    bench.chores(600);
    assert_eq!((bench.shield(SHIELDED), bench.enforcer(SHIELDED).is_some()), (None, true));
}

#[test]
fn the_prefix_of_a_finding_is_shielded_from_and_explained_for_each_address_in_it() {
    use crate::detect::rules::testing::Script;
    let mut script = Script::of_prefixes(64);
    for network in 0..60u16 {
        let source = std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, 0x4200 + network, 0, 0, 0, 1);
        script.syn_from(IpAddr::from(source).into(), network + 1, scanguard_common::oracle::Reach::Closed);
    }
    let finding = script.events().remove(0).finding;
    let mut bench = Bench::new(Mode::Enforce);
    bench.responder.consider(&finding, now(1), &mut bench.enforcer);
    assert_eq!(bench.enforcer.banned(Extent::Shield), [net("2001:db8:7:4200::/56")]);
    for (address, is_part) in [("2001:db8:7:42ff::9", true), ("2001:db8:7:4300::9", false)] {
        let explained = questions::explain(
            &bench.responder,
            address.parse().unwrap(),
            &mut std::iter::once(&finding),
            now(2),
            &bench.enforcer,
        );
        let found: Vec<_> = explained.findings.iter().map(|finding| finding.policy.as_str()).collect();
        let expected: &[&str] =
            if is_part { &["2001:db8:7:4200::/56 is shielded from already"] } else { &[] };
        assert_eq!((explained.response.is_some(), found.as_slice()), (is_part, expected), "{address}");
    }
    let open = questions::open_finding(&bench.responder, &finding, now(2));
    assert_eq!(open.source, Some(net("2001:db8:7:4200::/56")));
}

#[test]
fn a_ban_by_hand_says_whom_it_spares_and_so_do_the_list_and_the_explanation() {
    let mut bench = Bench::new(Mode::Enforce);
    let done = bench.order(Order::Ban { net: net("192.0.2.0/24"), lasts: None, reason: String::new() }, 1);
    let done = done.unwrap();
    assert_eq!(done.said, "192.0.2.0/24 is banned until `scanguard unban`");
    assert_eq!(done.notes, ["never dropped, though part of it: 192.0.2.1 (it is this host's own address)"]);
    assert_eq!(bench.enforcer("192.0.2.0/24"), Some((None, true)));
    let bans = questions::bans(&bench.responder, None, now(2), &bench.enforcer);
    assert_eq!(bans.bans[0].spared, 1);
    let explain = |address: &str| {
        let address = address.parse().unwrap();
        questions::explain(&bench.responder, address, &mut std::iter::empty(), now(2), &bench.enforcer)
    };
    assert!(explain("192.0.2.1").verdict.starts_with("banned, but spared: "));
    let other = explain("192.0.2.2");
    assert!(other.dropped && other.verdict.contains("as 192.0.2.0/24 without 1 that is never dropped: "));
}

#[test]
fn neighbours_at_a_link_are_banned_one_by_one_and_of_an_ssh_peer_elsewhere_the_whole_source_is_spared() {
    use crate::respond::ssh::{Connection, LOGGED_IN, Login, Session};
    let mut bench = Bench::new(Mode::Enforce);
    let session = Session { needed: LOGGED_IN, login: Login::Done };
    let ssh = ["[2001:db8:9:9::5]:4000", "[fd77::5]:4000"].map(|peer| {
        let own = "[fd77::1]:22".parse().unwrap();
        (Connection { peer: peer.parse().unwrap(), own, inode: None }, session)
    });
    let found = Discovered {
        own: vec![net("fd77::1/128")],
        on_link: vec![net("fd77::/64")],
        ssh: ssh.into_iter().collect(),
        ..Discovered::default()
    };
    bench.responder.set_discovered(found, now(0), &mut bench.enforcer);
    let allowed = |text| bench.enforcer.allowed.contains(&net(text));
    assert!(allowed("2001:db8:9:9::/64") && allowed("fd77::5/128") && !allowed("fd77::/64"));
    for (address, banned) in [("fd77::7", "fd77::7/128"), ("2001:db8:8:8::7", "2001:db8:8:8::/64")] {
        let source = bench.responder.source(address.parse().unwrap());
        assert_eq!(bench.responder.net(&source), net(banned));
        assert!(matches!(bench.find(banned, 1), Decision::Ban(_)), "{banned}");
    }
    for spared in ["fd77::/64", "fd77::5/128", "2001:db8:9:9::/64"] {
        assert!(matches!(bench.find(spared, 1), Decision::Refused(Refusal::Allowed { .. })), "{spared}");
    }
}
