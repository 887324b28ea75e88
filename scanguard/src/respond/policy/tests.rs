use super::{
    super::{allow::Why, ban_table::Ban, ban_table::Past, cause::Origin, testing::*},
    *,
};
use crate::detect::findings::Spoofable;

/// A finding that may ban, by default.
fn found() -> Cause {
    Cause::Rule {
        rule: "vertical_scan".to_owned(),
        finding: "1-0".to_owned(),
        confidence: Confidence::High,
        spoofable: Spoofable::No { completed: 1 },
        had_connections: false,
        has_grounds: true,
        reason: "40 syn probes".to_owned(),
    }
}

fn with(confidence: Confidence, spoofable: Spoofable) -> Cause {
    match found() {
        Cause::Rule { rule, finding, had_connections, has_grounds, reason, .. } => {
            Cause::Rule { rule, finding, confidence, spoofable, had_connections, has_grounds, reason }
        }
        other => other,
    }
}

fn by_hand(lasts: Option<u64>) -> Cause {
    Cause::Hand { uid: 0, lasts: lasts.map(Duration::from_secs), reason: "noise".to_owned() }
}

fn from_fleet(proven: bool) -> Cause {
    let lasts = Duration::from_secs(60);
    let (rule, reason) = ("fleet_sweep".to_owned(), "16 members".to_owned());
    Cause::Fleet { decision: 7, rule, proven, lasts, reason }
}

fn from_crowdsec(lasts: u64) -> Cause {
    let lasts = Duration::from_secs(lasts);
    Cause::Crowdsec { decision: 7, scenario: "crowdsecurity/ssh-bf".to_owned(), lasts }
}

/// The input of the policy, which each test changes.
struct World {
    settings: Settings,
    mode: Mode,
    allowed: AllowList,
    ban_table: BanTable,
    breaker: Breaker,
    salt: RandomState,
}

impl World {
    fn new() -> Self {
        Self {
            settings: Settings { jitter: 0, ..Settings::default() },
            mode: Mode::Enforce,
            allowed: AllowList::default(),
            ban_table: BanTable::default(),
            breaker: Breaker::default(),
            salt: RandomState::new(),
        }
    }

    fn policy_input(&self, second: u64) -> PolicyInput<'_> {
        let Self { settings, mode, allowed, ban_table, breaker, salt } = self;
        let now = now(second);
        let mode = ModeState::configured(*mode, now);
        PolicyInput { settings, mode, allowed, ban_table, breaker, now, salt }
    }

    fn judge(&self, text: &str, cause: &Cause, second: u64) -> Decision {
        judge(net(text), cause, self.policy_input(second))
    }

    /// The decision in a word: the refusal's label, or "ban", "shield" or "stands".
    fn said(&self, text: &str, cause: &Cause) -> &'static str {
        match self.judge(text, cause, 100) {
            Decision::Ban(terms) => terms.extent.label(),
            Decision::Stands { .. } => "stands",
            Decision::Refused(refusal) => refusal.label(),
        }
    }

    fn ban(&mut self, text: &str, origin: Origin, ends: Option<u64>) {
        self.put(Extent::Full, text, origin, ends);
    }

    fn put(&mut self, extent: Extent, text: &str, origin: Origin, ends: Option<u64>) {
        self.ban_table.insert(Ban {
            net: net(text),
            extent,
            origin,
            reason: String::new(),
            since: now(0).wall,
            ends: ends.map(Duration::from_secs),
            level: 0,
            dry: false,
        });
    }
}

/// The difference that a row of a table makes.
type Change<'c> = &'c dyn Fn(&mut World);

fn rule() -> Origin {
    Origin::Rule { rule: String::new(), finding: String::new() }
}

#[test]
fn what_a_finding_leads_to() {
    let no = Spoofable::No { completed: 1 };
    let decoys = Spoofable::Decoys { sources: 3 };
    let (low, medium, high) = (Confidence::Low, Confidence::Medium, Confidence::High);
    let known = || match with(high, Spoofable::Yes) {
        Cause::Rule { rule, finding, confidence, spoofable, has_grounds, reason, .. } => {
            Cause::Rule { rule, finding, confidence, spoofable, had_connections: true, has_grounds, reason }
        }
        other => other,
    };
    let storm = |world: &mut World| {
        world.breaker.refused(net("198.51.100.7/32"), Duration::from_secs(100), 100);
    };
    let rows: [(&str, Cause, Change<'_>, &str); 32] = [
        ("sure, and no forgery", found(), &|_| {}, "ban"),
        ("in dry run too", found(), &|world| world.mode = Mode::DryRun, "ban"),
        ("observe bans nobody", found(), &|world| world.mode = Mode::Observe, "observe"),
        ("a rule that may not", found(), &|world| world.settings.rules.clear(), "rule"),
        ("not sure enough", with(low, no), &|_| {}, "confidence"),
        ("sure enough", with(medium, no), &|_| {}, "ban"),
        ("more is wanted", with(medium, no), &|world| world.settings.min_confidence = high, "confidence"),
        ("anybody's address", with(high, Spoofable::Yes), &|_| {}, "shield"),
        ("in dry run too", with(medium, Spoofable::Yes), &|world| world.mode = Mode::DryRun, "shield"),
        ("in observe not", with(medium, Spoofable::Yes), &|world| world.mode = Mode::Observe, "observe"),
        ("decoys that are sure", with(medium, decoys), &|_| {}, "shield"),
        ("decoys as they are", with(low, decoys), &|_| {}, "confidence"),
        (
            "more is wanted than it can have",
            with(medium, Spoofable::Yes),
            &|world| world.settings.min_confidence = high,
            "shield",
        ),
        (
            "not sure enough for a shield",
            with(low, Spoofable::Yes),
            &|world| world.settings.min_confidence = high,
            "confidence",
        ),
        (
            "no shields are wanted",
            with(high, Spoofable::Yes),
            &|world| world.settings.shield = false,
            "spoofable",
        ),
        (
            "anybody's, and that is allowed",
            with(high, Spoofable::Yes),
            &|world| world.settings.allow_spoofable = true,
            "ban",
        ),
        (
            "the same of a client with connections",
            known(),
            &|world| world.settings.allow_spoofable = true,
            "shield",
        ),
        (
            "and without shields",
            known(),
            &|world| (world.settings.allow_spoofable, world.settings.shield) = (true, false),
            "spoofable",
        ),
        (
            "allowed, but not sure enough for that",
            with(medium, Spoofable::Yes),
            &|world| (world.settings.allow_spoofable, world.settings.min_confidence) = (true, high),
            "shield",
        ),
        ("an open breaker stops no shield", with(high, Spoofable::Yes), &storm, "shield"),
        ("banned already", found(), &|world| world.ban("192.0.2.7/32", rule(), None), "stands"),
        ("in a network that is", found(), &|world| world.ban("192.0.0.0/16", rule(), None), "stands"),
        ("one too many", found(), &|world| world.settings.max_per_minute = 0, "circuit_breaker"),
        ("in a storm", found(), &storm, "circuit_breaker"),
        ("by hand, in a storm", by_hand(None), &storm, "ban"),
        ("from CrowdSec, in a storm", from_crowdsec(60), &storm, "ban"),
        ("the fleet has proof", from_fleet(true), &|_| {}, "ban"),
        ("the fleet's suspicion", from_fleet(false), &|_| {}, "shield"),
        (
            "the fleet's, without shields",
            from_fleet(false),
            &|world| world.settings.shield = false,
            "spoofable",
        ),
        ("the fleet's, in a storm", from_fleet(true), &storm, "circuit_breaker"),
        ("the fleet's suspicion, in a storm", from_fleet(false), &storm, "shield"),
        (
            "the fleet's, of one who is banned",
            from_fleet(true),
            &|world| world.ban("192.0.2.7/32", rule(), None),
            "stands",
        ),
    ];
    for (name, cause, change, expected) in rows {
        let mut world = World::new();
        change(&mut world);
        assert_eq!(world.said("192.0.2.7/32", &cause), expected, "{name}");
    }
}

#[test]
fn nobody_bans_what_is_allowed_or_too_much() {
    let mut world = World::new();
    world.allowed.add(net("192.0.2.1/32"), Why::Own);
    world.allowed.add(net("198.51.100.0/24"), Why::Configured);
    world.allowed.add(net("2001:db8::1/128"), Why::Gateway);
    world.allowed.add(net("203.0.113.5/32"), Why::Resolver);
    let feed = Cause::Feed { feed: "drop".to_owned() };
    for cause in [found(), feed, by_hand(None), from_crowdsec(60), from_fleet(true)] {
        for (text, expected) in [
            ("192.0.2.1/32", "allowed"),
            ("198.51.100.9/32", "allowed"),
            ("203.0.113.5/32", "allowed"),
            // The kernel spares the resolver.
            ("203.0.113.0/24", "ban"),
            ("2001:db8:0:1::/64", "ban"),
            ("192.0.2.2/32", "ban"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("193.0.0.0/7", "host_bits"),
            ("192.0.2.1/24", "host_bits"),
            ("16.0.0.0/7", "too_wide"),
            ("16.0.0.0/8", "ban"),
            ("2400::/15", "too_wide"),
            ("2400::/16", "ban"),
        ] {
            assert_eq!(world.said(text, &cause), expected, "{text} by {:?}", cause.origin());
        }
    }
    // Only a user bans a network around this host or its gateway.
    for net in ["192.0.2.0/24", "2001:db8::/64", "192.0.0.0/16"] {
        for cause in [found(), Cause::Feed { feed: "drop".to_owned() }, from_crowdsec(60)] {
            assert_eq!(world.said(net, &cause), "allowed", "{net} by {:?}", cause.origin());
        }
        assert_eq!(world.said(net, &by_hand(None)), "ban", "{net}");
        assert_eq!(world.said(net, &with(Confidence::Medium, Spoofable::Yes)), "shield", "{net}");
    }
    // A kernel that lacks a part of the list would drop it.
    world.allowed.is_lacking = true;
    for net in ["192.0.2.0/24", "2001:db8::/64", "203.0.113.0/24"] {
        assert_eq!(world.said(net, &by_hand(None)), "allowed", "{net}");
    }
    let refused = |text| match world.judge(text, &by_hand(None), 1) {
        Decision::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused("192.0.2.1/24").contains("is 192.0.2.0/24 meant"), "{}", refused("192.0.2.1/24"));
    assert!(
        refused("192.0.2.0/24").starts_with("192.0.2.1, which is never banned, is within 192.0.2.0/24: "),
        "{}",
        refused("192.0.2.0/24")
    );
    assert!(refused("192.0.2.1/32").contains("own address"), "{}", refused("192.0.2.1/32"));
    assert!(refused("198.51.100.9/32").contains("within 198.51.100.0/24"));
}

#[test]
fn orders_hold_in_every_mode_and_their_times_are_checked() {
    for mode in Mode::ALL {
        let world = World { mode, ..World::new() };
        for (cause, expected) in [
            (by_hand(None), "ban"),
            (by_hand(Some(1)), "ban"),
            (by_hand(Some(0)), "time"),
            (by_hand(Some(u64::MAX)), "time"),
            (from_crowdsec(60), "ban"),
            (from_crowdsec(0), "time"),
        ] {
            assert_eq!(world.said("192.0.2.7/32", &cause), expected, "{mode} {cause:?}");
        }
        match world.judge("192.0.2.7/32", &by_hand(Some(60)), 1) {
            Decision::Ban(terms) => {
                assert_eq!((terms.lasts, terms.dry), (Some(Duration::from_secs(60)), false));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_ban_is_longer_until_good_behaviour_is_forgiven() {
    let mut world = World::new();
    let terms = |world: &World, second| match world.judge("192.0.2.7/32", &found(), second) {
        Decision::Ban(terms) => (terms.level, terms.lasts.unwrap().as_secs(), terms.reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(terms(&world, 0).1, 600);
    let day = 24 * 3_600;
    for (level, after, expected) in
        [(0, 1, (1, 3_600)), (1, 1, (2, day)), (2, 1, (3, day)), (2, day, (2, day)), (2, 3 * day, (0, 600))]
    {
        world.ban_table.remember(net("192.0.2.7/32"), Past { level, ended: now(0).wall, dry: false }, 9);
        let (level, lasts, _) = terms(&world, after);
        assert_eq!((level, lasts), expected, "after {after} s");
    }
    world.ban_table.remember(net("192.0.2.7/32"), Past { level: 0, ended: now(0).wall, dry: false }, 9);
    let expected = "banned for the 2nd time for 1h: vertical_scan, confidence high: 40 syn probes";
    assert_eq!(terms(&world, 1).2, expected);
}

#[test]
fn bans_that_are_made_at_once_do_not_end_at_once() {
    let world = World { settings: Settings { jitter: 10, ..Settings::default() }, ..World::new() };
    let mut seconds = std::collections::BTreeSet::new();
    for host in 0..=255 {
        let Decision::Ban(terms) = world.judge(&format!("192.0.2.{host}/32"), &found(), 1) else {
            panic!("no ban");
        };
        let lasts = terms.lasts.unwrap();
        assert!((600.0..660.0).contains(&lasts.as_secs_f64()), "{lasts:?}");
        seconds.insert(lasts.as_secs());
    }
    assert!(seconds.len() > 40, "{}", seconds.len());
}

#[test]
fn where_there_is_no_room_the_one_that_ends_soonest_goes_but_none_made_by_hand() {
    let mut world = World::new();
    world.settings.max_bans = 2;
    world.ban("192.0.2.1/32", Origin::Hand { uid: 0 }, Some(1));
    world.ban("192.0.2.2/32", rule(), Some(500));
    let evicted = |world: &World| match world.judge("192.0.2.7/32", &found(), 1) {
        Decision::Ban(terms) => terms.evicts,
        other => panic!("{other:?}"),
    };
    assert_eq!(evicted(&world), Some(net("192.0.2.2/32")));
    world.ban("192.0.2.2/32", Origin::Hand { uid: 0 }, None);
    assert_eq!(world.said("192.0.2.7/32", &found()), "full");
    assert_eq!(world.said("192.0.2.7/32", &by_hand(None)), "full");
    assert_eq!(world.said("192.0.2.2/32", &by_hand(Some(5))), "ban", "its own place is free");
}

#[test]
fn a_decision_of_crowdsec_gives_way_to_orders_and_to_what_lasts_longer() {
    let decision = |decision| Origin::Crowdsec { decision };
    for (origin, ends, said) in [
        (Origin::Hand { uid: 0 }, Some(110), "stands"),
        (Origin::Hand { uid: 0 }, None, "stands"),
        (rule(), Some(150), "ban"),
        (rule(), Some(5_000), "stands"),
        (Origin::Adopted, Some(150), "ban"),
        (decision(7), Some(705), "stands"),
        (decision(7), Some(9_000), "ban"),
        (decision(8), Some(9_000), "ban"),
    ] {
        let mut world = World::new();
        world.ban("192.0.2.7/32", origin.clone(), ends);
        assert_eq!(world.said("192.0.2.7/32", &from_crowdsec(600)), said, "{origin} until {ends:?}");
    }
}

#[test]
fn the_kernel_may_hold_only_those_about_whom_a_rule_would_do_something() {
    let plain = |rule, services| Plain { rule, services, window: Duration::from_secs(600) };
    let rules = [plain("vertical_scan", 20), plain("sequential_test", 9), plain("service_probe", 2)];
    let world = World::new();
    let held = |world: &World| reflex(&rules, world.policy_input(100));
    let expected = HoldTerms { services: 9, lasts: Duration::from_millis(200), most: 100 };
    assert_eq!(held(&world), Some(expected));
    let with = |change: fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        held(&world)
    };
    assert_eq!(with(|world| world.settings.shield = false), None, "nothing is done about it");
    let banned = with(|world| (world.settings.allow_spoofable, world.settings.shield) = (true, false));
    assert_eq!(banned, Some(expected));
    let sure = with(|world| {
        (world.settings.allow_spoofable, world.settings.shield) = (true, false);
        world.settings.min_confidence = Confidence::High;
    });
    assert_eq!(sure, None, "high confidence takes more than what was missed");
    assert_eq!(with(|world| world.mode = Mode::DryRun), Some(expected), "counted only");
    assert_eq!(with(|world| world.mode = Mode::Observe), None);
    assert_eq!(with(|world| world.settings.reflex = Duration::ZERO), None);
    assert_eq!(with(|world| world.settings.rules = vec!["udp_scan".to_owned()]), None);
    let fewer = with(|world| world.settings.rules = vec!["vertical_scan".to_owned()]);
    assert_eq!(fewer.map(|reflex| reflex.services), Some(20));
    let storm = |world: &mut World| {
        world.breaker.refused(net("192.0.2.7/32"), Duration::from_secs(90), 100);
    };
    assert_eq!(with(storm), Some(expected), "a hold is a shield, which a storm does not stop");
    let bans_alone = with(|world| {
        (world.settings.allow_spoofable, world.settings.shield) = (true, false);
        world.breaker.refused(net("192.0.2.7/32"), Duration::from_secs(90), 100);
    });
    assert_eq!(bans_alone, None, "nothing is done about it");
}

#[test]
fn a_finding_from_before_its_source_was_released_bans_nobody() {
    let cause = match found() {
        Cause::Rule { rule, finding, confidence, spoofable, had_connections, reason, .. } => {
            Cause::Rule { rule, finding, confidence, spoofable, had_connections, has_grounds: false, reason }
        }
        other => other,
    };
    assert_eq!(World::new().said("198.51.100.7/32", &cause), "let_go");
}

fn unproven() -> Cause {
    with(Confidence::Medium, Spoofable::Yes)
}

#[test]
fn a_shield_lasts_as_long_as_the_first_ban_and_is_renewed_in_the_second_half_of_that() {
    let mut world = World::new();
    match world.judge("192.0.2.7/32", &unproven(), 0) {
        Decision::Ban(BanTerms {
            extent: Extent::Shield,
            lasts,
            level: 0,
            dry: false,
            evicts: None,
            reason,
        }) => {
            assert_eq!(lasts, Some(Duration::from_secs(600)));
            assert_eq!(reason, "shielded from for 10m: vertical_scan, confidence medium: 40 syn probes");
        }
        other => panic!("{other:?}"),
    }
    // The number and length of earlier bans do not matter.
    world.ban_table.remember(net("192.0.2.7/32"), Past { level: 2, ended: now(0).wall, dry: false }, 9);
    assert_eq!(world.said("192.0.2.7/32", &unproven()), "shield");
    for (ends, said) in [(100 + 301, "stands"), (100 + 300, "shield"), (101, "shield")] {
        world.put(Extent::Shield, "192.0.2.7/32", rule(), Some(ends));
        assert_eq!(world.said("192.0.2.7/32", &unproven()), said, "until {ends}");
    }
}

#[test]
fn a_ban_goes_before_a_shield_and_a_shield_before_none() {
    let mut world = World::new();
    world.put(Extent::Shield, "192.0.2.7/32", rule(), Some(5_000));
    for cause in [found(), by_hand(None), from_crowdsec(60)] {
        assert_eq!(world.said("192.0.2.7/32", &cause), "ban", "{:?}", cause.origin());
    }
    for text in ["192.0.2.7/32", "192.0.0.0/16"] {
        let mut world = World::new();
        world.ban(text, rule(), Some(5_000));
        assert_eq!(world.said("192.0.2.7/32", &unproven()), "stands", "{text}");
    }
}

#[test]
fn shields_and_bans_have_rooms_of_their_own() {
    let mut world = World::new();
    (world.settings.max_bans, world.settings.max_shields) = (1, 1);
    world.ban("192.0.2.1/32", rule(), Some(500));
    world.put(Extent::Shield, "192.0.2.2/32", rule(), Some(5_000));
    let evicted = |world: &World, text: &str, cause: &Cause| match world.judge(text, cause, 1) {
        Decision::Ban(terms) => terms.evicts,
        other => panic!("{other:?}"),
    };
    assert_eq!(evicted(&world, "192.0.2.7/32", &unproven()), Some(net("192.0.2.2/32")));
    assert_eq!(evicted(&world, "192.0.2.7/32", &found()), Some(net("192.0.2.1/32")));
    assert_eq!(evicted(&world, "192.0.2.2/32", &found()), Some(net("192.0.2.1/32")), "it had a shield only");
    world.put(Extent::Shield, "192.0.2.2/32", rule(), Some(100));
    assert_eq!(evicted(&world, "192.0.2.2/32", &unproven()), None, "its own place");
    world.ban("192.0.2.1/32", Origin::Hand { uid: 0 }, None);
    assert_eq!(world.said("192.0.2.7/32", &found()), "full");
    assert_eq!(world.said("192.0.2.7/32", &unproven()), "shield");
}
