//! Property tests of policy, ban table and breaker together. Random events in random order drive them as the responder
//! does.

use std::{collections::BTreeSet, hash::RandomState, time::Duration};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    Mode, ModeState,
    allow::{AllowList, Why},
    ban_table::{Ban, BanTable},
    breaker::Breaker,
    cause::{Cause, Origin},
    policy::{BanTerms, Decision, PolicyInput, judge},
    refusal::Refusal,
    settings::Settings,
    testing::{net, now},
};
use crate::{
    detect::{Confidence, findings::Spoofable},
    sensor::gate::Extent,
};

const MAX_BANS: u32 = 5;
const MAX_SHIELDS: u32 = 3;
const MAX_PER_MINUTE: u32 = 3;
/// Long enough for another ban within it, and short enough to pass.
const FORGIVE: Duration = Duration::from_secs(400);

/// An event that asks for a ban.
#[derive(Clone, Debug)]
struct Step {
    /// Seconds since the previous step.
    pause: u64,
    network: u8,
    host: u8,
    prefix: u8,
    by: By,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Rule(Mode),
    /// A rule, on evidence that may be forged.
    Forged,
    Hand(Option<u64>),
    Crowdsec(u64),
    /// The fleet, with or without proof.
    Fleet(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::DryRun), Just(Mode::Observe)];
    let by = prop_oneof![
        6 => mode.prop_map(By::Rule),
        3 => Just(By::Forged),
        1 => prop::option::of(0u64..500).prop_map(By::Hand),
        1 => (0u64..500).prop_map(By::Crowdsec),
        2 => any::<bool>().prop_map(By::Fleet),
    ];
    let pause = prop_oneof![3 => 0u64..5, 2 => 0u64..90, 1 => 0u64..1_000];
    let prefix = prop_oneof![8 => Just(32u8), 1 => 0u8..=32];
    let step = (pause, 0u8..6, 0u8..10, prefix, by);
    let step = step.prop_map(|(pause, network, host, prefix, by)| Step { pause, network, host, prefix, by });
    prop::collection::vec(step, 1..80)
}

fn cause(by: By, number: u64) -> Cause {
    match by {
        By::Rule(_) | By::Forged => Cause::Rule {
            rule: "vertical_scan".to_owned(),
            finding: number.to_string(),
            confidence: Confidence::High,
            spoofable: match by {
                By::Forged => Spoofable::Yes,
                By::Rule(_) | By::Hand(_) | By::Crowdsec(_) | By::Fleet(_) => Spoofable::No { completed: 1 },
            },
            had_connections: false,
            has_grounds: true,
            reason: String::new(),
        },
        By::Hand(lasts) => {
            Cause::Hand { uid: 0, lasts: lasts.map(Duration::from_secs), reason: String::new() }
        }
        By::Fleet(proven) => Cause::Fleet {
            decision: number,
            rule: "fleet_sweep".to_owned(),
            proven,
            lasts: Duration::from_secs(60),
            reason: String::new(),
        },
        By::Crowdsec(lasts) => {
            Cause::Crowdsec { decision: number, scenario: String::new(), lasts: Duration::from_secs(lasts) }
        }
    }
}

fn origin(by: By, number: u64) -> Origin {
    match by {
        By::Rule(_) | By::Forged => {
            Origin::Rule { rule: "vertical_scan".to_owned(), finding: number.to_string() }
        }
        By::Hand(_) => Origin::Hand { uid: 0 },
        By::Crowdsec(_) => Origin::Crowdsec { decision: number },
        By::Fleet(_) => Origin::Fleet { decision: number, rule: "fleet_sweep".to_owned() },
    }
}

proptest! {
    #[test]
    fn no_cap_is_exceeded_nobody_allowed_is_banned_and_who_comes_again_is_banned_for_longer(steps in steps()) {
        let times = [10, 60, 120].map(Duration::from_secs).to_vec();
        let settings = Settings {
            times, jitter: 0, max_bans: MAX_BANS, max_shields: MAX_SHIELDS, max_per_minute: MAX_PER_MINUTE, forgive: FORGIVE,
            ..Settings::default()
        };
        let mut allowed = AllowList::default();
        allowed.add(net("192.0.2.3/32"), Why::Own);
        allowed.add(net("192.0.2.8/31"), Why::Own);
        let (mut ban_table, mut breaker, salt) = (BanTable::default(), Breaker::default(), RandomState::new());
        let (mut second, mut opened) = (0, 0);
        let (mut by_rules, mut asked) = (Vec::new(), Vec::new());
        for (number, Step { pause, network, host, prefix, by }) in (0u64..).zip(steps) {
            second += pause;
            let now = now(second);
            ban_table.expire(now, MAX_BANS as usize);
            ban_table.forgive(FORGIVE, now.wall);
            let was_open = breaker.is_open();
            let closed = breaker.close_if_calm(now.at, MAX_PER_MINUTE).is_some();
            let lately = |networks: &[(u64, IpNet)]| {
                let lately = networks.iter().filter(|(made, _)| second - made < 60);
                lately.map(|(_, network)| *network).collect::<BTreeSet<_>>().len()
            };
            if was_open && !closed {
                // Something keeps it open: it opened within this minute, or too many asked.
                let is_new = second - opened < 60;
                prop_assert!(is_new || lately(&asked) > MAX_PER_MINUTE.div_ceil(2) as usize);
            }
            let wanted = IpNet::new([192, 0, network, host].into(), prefix).expect("at most 32 bits").trunc();
            let mode = if let By::Rule(mode) = by { mode } else { Mode::Enforce };
            let in_force = ModeState::configured(mode, now);
            let input = PolicyInput {
                settings: &settings, mode: in_force, allowed: &allowed, ban_table: &ban_table, breaker: &breaker, now, salt: &salt,
            };
            let network = IpNet::new(wanted.addr(), prefix.min(24)).expect("at most 24 bits").trunc();
            let terms = match judge(wanted, &cause(by, number), input) {
                Decision::Ban(terms) => terms,
                Decision::Refused(Refusal::Breaker { .. }) => {
                    prop_assert!(matches!(by, By::Rule(_) | By::Fleet(true)), "only new bans by rules are refused");
                    let before = ban_table.len(Extent::Full);
                    if breaker.refused(wanted, now.at, MAX_PER_MINUTE) {
                        opened = second;
                    }
                    asked.push((second, network));
                    prop_assert_eq!(ban_table.len(Extent::Full), before);
                    continue;
                }
                Decision::Refused(_) | Decision::Stands { .. } => continue,
            };
            let BanTerms { extent, lasts, level, dry, evicts, reason } = terms;
            prop_assert_eq!(extent == Extent::Shield, matches!(by, By::Forged | By::Fleet(false)));
            if extent == Extent::Shield {
                prop_assert!(ban_table.banned(wanted).is_none() && level == 0, "a shield in place of a ban");
                let fleets = matches!(by, By::Fleet(_)).then_some(Duration::from_secs(60));
                prop_assert_eq!(lasts, Some(fleets.unwrap_or(settings.time(0))));
            }
            if let By::Fleet(true) = by {
                prop_assert!(!breaker.is_open() && evicts.is_none(), "a ban by the fleet in a storm, or in place of another");
                breaker.made(wanted, now.at, MAX_PER_MINUTE);
                by_rules.push((second, network));
                asked.push((second, network));
            }
            if let By::Rule(mode) = by {
                prop_assert!(mode != Mode::Observe && dry == (mode == Mode::DryRun));
                // A source that was not quiet for long enough goes up one level, to a ban that is at least as long.
                match ban_table.before(wanted) {
                    Some(past) => {
                        let left = past.level(FORGIVE, now.wall);
                        prop_assert_eq!(level, left.map_or(0, |left| left + 1));
                        prop_assert!(level <= past.level + 1);
                        if left == Some(past.level) {
                            prop_assert!(lasts >= Some(settings.time(past.level)), "{lasts:?}");
                        }
                    }
                    None => prop_assert_eq!(level, 0),
                }
                prop_assert_eq!(lasts, Some(settings.time(level)));
                prop_assert!(!breaker.is_open(), "a ban by a rule in a storm");
                breaker.made(wanted, now.at, MAX_PER_MINUTE);
                by_rules.push((second, network));
                asked.push((second, network));
            }
            if let Some(victim) = evicts {
                let gone = ban_table.remove(victim);
                let is_by_hand = gone.as_ref().is_some_and(|ban| matches!(ban.origin, Origin::Hand { .. }));
                let is_same = gone.as_ref().is_some_and(|ban| ban.extent == extent);
                prop_assert!(is_same && !is_by_hand && victim != wanted, "{gone:?}");
            }
            let ends = lasts.map(|lasts| now.at + lasts);
            let origin = origin(by, number);
            ban_table.insert(Ban { net: wanted, extent, origin, reason, since: now.wall, ends, level, dry });

            prop_assert!(ban_table.len(Extent::Shield) <= MAX_SHIELDS as usize);
            prop_assert!(ban_table.len(Extent::Full) <= MAX_BANS as usize && ban_table.past().count() <= MAX_BANS as usize);
            for ban in ban_table.bans() {
                prop_assert!(allowed.around(ban.net).is_none(), "{} is allowed", ban.net);
                let is_ordered = matches!(ban.origin, Origin::Hand { .. }) || ban.extent == Extent::Shield;
                prop_assert!(allowed.near(ban.net).is_none() || is_ordered, "{} has neighbours", ban.net);
                prop_assert!(ban.ends.is_none_or(|ends| ends > now.at), "{} has ended", ban.net);
            }
            let lately = lately(&by_rules);
            prop_assert!(lately <= MAX_PER_MINUTE as usize, "bans in {lately} networks within a minute");
        }
        // In the end all bans are over and forgiven.
        let late = now(second + 1_000_000);
        ban_table.expire(late, MAX_BANS as usize);
        ban_table.forgive(FORGIVE, now(second + 2_000_000).wall);
        prop_assert_eq!(ban_table.past().count(), 0);
        prop_assert!(ban_table.bans().all(|ban| ban.ends.is_none()));
    }
}
