//! How much it weighs that SYNs look like those of a scanner.
//!
//! The fingerprint of a SYN ([`scanguard_common::syn`]) is its sender's choice. Nobody sends a scanner's by mistake, but
//! anybody can send one in another's name, as any SYN. So one crafted SYN proves nothing against a source, and nothing
//! here counts as proven. The weight goes by how many distinct things were certainly asked for by crafted SYNs, and only
//! if most SYNs that met nothing were crafted: a client is not accused of what others forge among its own.

use crate::{
    detect::missed::{self, ATTEMPTS},
    observe::{
        activity::{Activity, Crafted},
        tools::SynTools,
    },
};

/// A distinct failure by a crafted SYN weighs as much as so many by other SYNs. With three times the weight, three of
/// them are as much as nine.
pub const WEIGHT: u64 = 3;
/// Of so many SYNs that met nothing, one at most was not crafted.
const MOST: u64 = 4;

/// Of so many distinct failures, at least so many were by crafted SYNs. `failures` is a number of distinct services or
/// addresses that were certainly missed. Each SYN that was not crafted may account for one of them: those that no socket
/// wanted in any case, and the others as far as services did not answer.
pub fn failures(activity: &Activity, failures: u64) -> u64 {
    let Crafted { syns, missed, .. } = activity.crafted();
    let (syns, unwanted) = (u64::from(syns), u64::from(missed));
    let wanted = syns.saturating_sub(unwanted);
    let all = activity.counts.of_any(ATTEMPTS);
    let all_unwanted = missed::probes(activity, ATTEMPTS);
    let unanswered = activity.unanswered_services().value.max(activity.unanswered_hosts().value);
    let others_wanted = all.saturating_sub(all_unwanted).saturating_sub(wanted);
    let others = all_unwanted.saturating_sub(unwanted) + others_wanted.min(unanswered);
    let crafted = unwanted + wanted.min(unanswered);
    if others.saturating_mul(MOST) > crafted.saturating_add(others) {
        return 0;
    }
    failures.saturating_sub(others).min(crafted)
}

/// Of so many distinct targets, at least so many were asked for by crafted SYNs, whatever came of them.
pub fn targets(activity: &Activity, targets: u64) -> u64 {
    let syns = u64::from(activity.crafted().syns);
    let others = activity.counts.of_any(ATTEMPTS).saturating_sub(syns);
    if others.saturating_mul(MOST) > syns.saturating_add(others) {
        return 0;
    }
    targets.saturating_sub(others).min(syns)
}

/// Of so many distinct services that were met, so many at most were met by SYNs that were not crafted. A scanner's own
/// successes are no client's, and a client met at most one with each SYN.
pub fn successes(activity: &Activity, successes: u64) -> u64 {
    let Crafted { syns, missed, .. } = activity.crafted();
    let others = activity.counts.of_any(ATTEMPTS).saturating_sub(u64::from(syns));
    successes.saturating_sub(u64::from(syns.saturating_sub(missed))).min(others)
}

/// How many failures weigh as much as these, by how many of them were by crafted SYNs.
pub fn weighed(activity: &Activity, all: u64) -> u64 {
    all + (WEIGHT - 1) * failures(activity, all)
}

/// The tools whose SYNs a source's look like; none unless half of its SYNs do.
pub fn tools(activity: &Activity, list: &SynTools) -> Vec<std::sync::Arc<str>> {
    let crafted = activity.crafted();
    let all = activity.counts.of_any(ATTEMPTS);
    if crafted.syns == 0 || u64::from(crafted.syns) * 2 < all {
        return Vec::new();
    }
    list.names(crafted.tools)
}

/// The same in words, for a reason.
pub fn in_words(activity: &Activity, list: &SynTools) -> Option<String> {
    let tools = tools(activity, list);
    let (last, others) = tools.split_last()?;
    let names = match others {
        [] => last.to_string(),
        others => format!("{} or {last}", others.join(", ")),
    };
    let (crafted, all) = (activity.crafted().syns, activity.counts.of_any(ATTEMPTS));
    Some(format!("{crafted} of {all} SYNs look like those of {names}, which anybody can imitate"))
}

#[cfg(test)]
mod tests {
    use scanguard_common::{
        account::{Distinct, SourceState},
        oracle::Reach,
        outcome::ProbeClass,
    };

    use super::*;
    use crate::{
        detect::rules::testing::{Script, told},
        observe::activity::Totals,
    };

    type Play = fn(&mut Script);

    #[test]
    fn failures_by_other_syns_may_be_any_of_the_distinct_ones() {
        for (crafted, others, distinct, expected) in [
            (3, 0, 3, 3),
            (3, 0, 2, 2),
            (3, 1, 4, 3),
            (12, 2, 10, 8),
            // Less than three of four.
            (3, 2, 5, 0),
            (1, 600, 2, 0),
            (0, 9, 9, 0),
        ] {
            let activity = activity(crafted, others, 0);
            assert_eq!(failures(&activity, distinct), expected, "{crafted} and {others}: {distinct}");
        }
    }

    /// SYNs that met nothing, crafted and not, and crafted ones that met a service.
    fn activity(crafted: u32, others: u32, met: u32) -> Activity {
        let mut state = SourceState::new(1, 1);
        state.counts[ProbeClass::Syn.index()] = crafted + others + met;
        state.reach[Reach::Closed as usize] = crafted + others;
        state.reach[Reach::Open as usize] = met;
        let activity = Activity::between(&Totals::default(), &Totals::from(&state), Distinct::EMPTY);
        activity.with_crafted(Crafted { syns: crafted + met, missed: crafted, tools: 1 })
    }

    #[test]
    fn targets_count_if_hardly_any_syn_was_not_crafted() {
        for (crafted, others, expected) in [(16, 0, 16), (16, 4, 12), (12, 5, 0), (0, 16, 0)] {
            assert_eq!(targets(&activity(crafted, others, 0), 16), expected, "{crafted} and {others}");
        }
        assert_eq!(targets(&activity(5, 0, 0), 16), 5, "a SYN asks for one");
    }

    #[test]
    fn what_a_scanner_met_is_no_success_of_a_client() {
        assert_eq!(successes(&activity(3, 0, 2), 2), 0);
        assert_eq!(successes(&activity(3, 4, 2), 5), 3);
        assert_eq!(successes(&activity(3, 1, 2), 5), 1, "a client sends a SYN for each");
        assert_eq!(successes(&activity(0, 9, 0), 5), 5);
    }

    #[test]
    fn three_failures_by_crafted_syns_are_a_scan() {
        let scans: [(&str, Play); 4] = [
            ("three closed ports", |script| {
                for port in [21, 23, 8_443] {
                    script.crafted(1, 1, port, Reach::Closed);
                }
            }),
            ("three dark addresses, over minutes", |script| {
                for host in 1..=3 {
                    script.at(u64::from(host) * 60).crafted(1, host, 22, Reach::Dark);
                }
            }),
            ("three closed ports and five open ones", |script| {
                for port in 1..=5 {
                    script.crafted(1, 1, port, Reach::Open);
                }
                for port in [21, 23, 8_443] {
                    script.crafted(1, 1, port, Reach::Closed);
                }
            }),
            ("three closed ports, beside another client that uses one service", |script| {
                for second in 0..60 {
                    script.at(second).open(1, 1, 443);
                }
                for port in [21, 23, 8_443, 8_444] {
                    script.crafted(1, 1, port, Reach::Closed);
                }
            }),
        ];
        for (name, play) in scans {
            assert_eq!(told(play), ["sequential_test"], "{name}");
        }
    }

    #[test]
    fn fewer_and_those_among_others_are_not() {
        let quiet: [(&str, Play); 6] = [
            ("two closed ports", |script| {
                script.crafted(1, 1, 21, Reach::Closed).crafted(1, 1, 23, Reach::Closed);
            }),
            ("one closed port, again and again", |script| {
                for second in 0..600 {
                    script.at(second).crafted(1, 1, 21, Reach::Closed);
                }
            }),
            ("checks by half a handshake of four services, two of which go down", |script| {
                for second in 0..600 {
                    for port in 1..=4 {
                        let reach = if second > 300 && port > 2 { Reach::Closed } else { Reach::Open };
                        script.at(second).crafted(1, 1, port, reach);
                    }
                }
            }),
            ("one forged SYN among those of a client of services that are down", |script| {
                for second in 0..60 {
                    script.at(second).syn(1, 1, 80).syn(1, 1, 443);
                }
                script.crafted(1, 1, 21, Reach::Closed);
            }),
            ("three forged SYNs among those of a client of a service that is down", |script| {
                for second in 0..60 {
                    script.at(second).syn(1, 1, 80);
                }
                for port in [21, 23, 8_443] {
                    script.crafted(1, 1, port, Reach::Closed);
                }
            }),
            ("many forged SYNs to services, and a client that misses eight", |script| {
                for port in 1..=8 {
                    script.syn(1, 1, 100 + port).crafted(1, 1, 443, Reach::Open);
                }
            }),
        ];
        for (name, play) in quiet {
            assert!(told(play).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_finding_names_the_tool() {
        let mut script = Script::all_rules();
        for port in 1..=20 {
            script.crafted(1, 1, port, Reach::Closed);
        }
        let finding = script.events().pop().expect("a finding").finding;
        assert_eq!((finding.rule, finding.tools.len()), ("vertical_scan", 1));
        assert!(finding.tools[0].contains("nmap"), "{:?}", finding.tools);
        assert!(finding.reason.ends_with("which anybody can imitate"), "{}", finding.reason);
    }

    #[test]
    fn tools_are_named_if_half_of_the_syns_are_theirs_and_it_is_said_that_anybody_can_be_the_sender() {
        let list = SynTools::parse("1024_2_1460_00 one\n2048_2_1460_00 two\n").unwrap();
        assert_eq!(tools(&activity(3, 4, 0), &list), []);
        assert_eq!(tools(&activity(3, 3, 0), &list), ["one".into()]);
        let words = in_words(&activity(3, 0, 1), &list).unwrap();
        assert_eq!(words, "4 of 4 SYNs look like those of one, which anybody can imitate");
        assert_eq!(in_words(&Activity::NONE, &list), None);
    }
}
