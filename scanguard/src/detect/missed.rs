//! Bounds for how many distinct services or addresses a source tried and missed.
//!
//! The kernel keeps bitmaps of what was missed for certain, and of what was asked for and what answered. It counts the
//! reach of all probes. These give bounds, not numbers. A rule gets the number that was *proven* to be missed, and the
//! number that was *possibly* missed: a probe may have met a service whose answer nobody sees here, because it left by
//! another way. A rule must never treat the possible number as proven.

use scanguard_common::{
    oracle::Reach,
    outcome::{
        Answer,
        ProbeClass::{self, IcmpAddressMask, IcmpEcho, IcmpInformation, IcmpTimestamp},
    },
};

use crate::observe::{activity::Activity, distinct::Estimate, sampled::Kind};

/// Classes that attempt to connect.
pub const ATTEMPTS: &[ProbeClass] = &[ProbeClass::Syn];
/// Classes of UDP.
pub const DATAGRAMS: &[ProbeClass] = &[ProbeClass::Udp, ProbeClass::UdpEmpty];
/// Classes of requests to an address. They have no service, so their reach is never `closed`.
pub const REQUESTS: &[ProbeClass] = &[IcmpEcho, IcmpTimestamp, IcmpAddressMask, IcmpInformation];
/// Classes that no socket can want: on an address that is in use, their reach is unknown.
const WITHOUT_SOCKETS: &[ProbeClass] = &[
    IcmpEcho,
    IcmpTimestamp,
    IcmpAddressMask,
    IcmpInformation,
    ProbeClass::SctpInit,
    ProbeClass::SctpCookieEcho,
    ProbeClass::IpProtocol,
];

/// Bounds for the distinct services or addresses that a source tried and missed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Missed {
    /// Lower bound: so many were closed or dark.
    pub proven: u64,
    /// Upper bound: it includes those with unknown reach.
    pub possible: u64,
}

/// Probes of these classes that met no socket.
pub fn probes(activity: &Activity, classes: &[ProbeClass]) -> u64 {
    let all = activity.counts.of_any(classes);
    // Only a SYN can meet a listener.
    let open = if classes.contains(&ProbeClass::Syn) { activity.reached(Reach::Open) } else { 0 };
    all.saturating_sub(open)
}

/// Distinct services that probes of these classes tried, among these kinds of targets.
pub fn services(activity: &Activity, classes: &[ProbeClass], kinds: &[Kind]) -> Missed {
    let share = |distinct: Estimate| activity.sampled.share_of_services(distinct.value, kinds);
    bounds(activity, classes, share(activity.closed_services()), share(activity.unanswered_services()))
}

/// Distinct addresses that probes of these classes tried.
pub fn hosts(activity: &Activity, classes: &[ProbeClass], kinds: &[Kind]) -> Missed {
    let share = |distinct: Estimate| activity.sampled.share_of_hosts(distinct.value, kinds);
    bounds(activity, classes, share(activity.closed_hosts()), share(activity.unanswered_hosts()))
}

/// `distinct` were missed as far as their own packets show, and `unanswered` were asked by SYNs and did not answer.
fn bounds(activity: &Activity, classes: &[ProbeClass], distinct: u64, unanswered: u64) -> Missed {
    let missed = probes(activity, classes);
    let asks = classes.contains(&ProbeClass::Syn);
    // A listener may refuse, too.
    let refused = activity.answered(Answer::Reset).saturating_sub(activity.reached(Reach::Closed));
    let refused = if asks { refused.min(activity.reached(Reach::Open)) } else { 0 };
    // Of the SYNs with unknown reach, these were answered.
    let answered = activity.answered(Answer::SynAck).saturating_sub(activity.reached(Reach::Open));
    let answered = if asks { answered.min(activity.reached(Reach::Unknown)).min(missed) } else { 0 };
    let distinct = distinct.min(missed - answered + refused);
    let without_syns = if asks { missed.saturating_sub(probes(activity, ATTEMPTS)) } else { missed };
    let unanswered = if asks { unanswered } else { 0 };
    // Each probe of unknown fate may account for one of the distinct targets.
    Missed {
        proven: distinct.saturating_sub(unsettled(activity, without_syns))
            + unanswered.saturating_sub(activity.unsure()),
        possible: distinct + unanswered,
    }
}

/// Of so many probes that are no SYNs: those that nobody refused, and whose reach is unknown.
fn unsettled(activity: &Activity, missed: u64) -> u64 {
    let never_told = activity.counts.of_any(WITHOUT_SOCKETS).saturating_sub(activity.reached(Reach::Dark));
    let unknown = activity.reached(Reach::Unknown).saturating_sub(never_told).min(missed);
    let refusals = activity.answered(Answer::Reset).saturating_add(activity.answered(Answer::Unreachable));
    unknown - refusals.saturating_sub(activity.reached(Reach::Closed)).min(unknown)
}

/// Distinct services that were met, on this host or beyond it, or the addresses of them if these are more.
pub fn successes(activity: &Activity) -> u64 {
    activity.open_services().value.max(activity.open_hosts().value)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{net::Ipv4Addr, ops::RangeInclusive};

    use scanguard_common::{
        account::{self, Around, SourceState, Unshared},
        outcome::{Flow, PortRange, Service},
    };

    use super::*;
    use crate::observe::activity::Totals;

    fn activity(play: impl FnOnce(&mut SourceState)) -> Activity {
        let mut state = SourceState::new(1, 1);
        play(&mut state);
        let activity = Activity::between(&Totals::default(), &Totals::from(&state), state.distinct_since(1));
        activity.with_samples(&state.samples, PortRange::DEFAULT)
    }

    fn flow(protocol: u8, port: u16) -> Flow {
        Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol, port },
            source_port: 40_000,
            reserved: 0,
        }
    }

    fn probe(state: &mut SourceState, class: ProbeClass, reach: Reach, port: u16) {
        let protocol = if DATAGRAMS.contains(&class) {
            17
        } else if REQUESTS.contains(&class) {
            1
        } else {
            6
        };
        let around = Around { epoch: 1, salt: 7, sees_answers: true, is_overheard: false, is_new: false };
        let flow = flow(protocol, port);
        // SAFETY: an exclusive reference.
        let _news =
            unsafe { account::record::<Unshared>(state, class.index(), reach, &flow, around, || false) };
    }

    fn answered(state: &mut SourceState, answer: Answer, ports: RangeInclusive<u16>) {
        for port in ports {
            // SAFETY: an exclusive reference.
            unsafe { account::record_answer::<Unshared>(state, answer, &flow(6, port), 1, 7) };
        }
    }

    fn of_syns(play: impl FnOnce(&mut SourceState)) -> Missed {
        services(&activity(play), ATTEMPTS, Kind::TCP)
    }

    fn about(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) <= 2
    }

    fn syns(state: &mut SourceState, reach: Reach) {
        (1..=20).for_each(|port| probe(state, ProbeClass::Syn, reach, port));
    }

    #[test]
    fn closed_and_unanswered_is_proven_if_the_answers_are_seen() {
        for reach in [Reach::Closed, Reach::Dark, Reach::Unknown, Reach::Open] {
            let missed = of_syns(|state| syns(state, reach));
            assert!(about(missed.proven, 20) && about(missed.possible, 20), "{reach:?} {missed:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_only_possible_where_answers_are_not_seen() {
        let activity = activity(|state| syns(state, Reach::Unknown)).of_unseen_answers();
        let missed = services(&activity, ATTEMPTS, Kind::TCP);
        assert!(missed.proven == 0 && about(missed.possible, 20), "{missed:?}");
    }

    #[test]
    fn answers_settle_what_was_asked() {
        for reach in [Reach::Unknown, Reach::Open] {
            let refused = of_syns(|state| {
                syns(state, reach);
                answered(state, Answer::Reset, 1..=20);
            });
            assert!(about(refused.proven, 20) && about(refused.possible, 20), "{refused:?}");
            let met = activity(|state| {
                syns(state, reach);
                answered(state, Answer::SynAck, 1..=20);
            });
            assert_eq!(services(&met, ATTEMPTS, Kind::TCP), Missed::default());
            assert!(about(successes(&met), 20));
            let some = of_syns(|state| {
                syns(state, reach);
                answered(state, Answer::SynAck, 1..=5);
            });
            assert!(about(some.proven, 15), "{some:?}");
        }
    }

    #[test]
    fn services_that_answered_do_not_make_up_for_what_other_probes_missed() {
        let mixed = of_syns(|state| {
            (1..=20).for_each(|port| probe(state, ProbeClass::Syn, Reach::Unknown, port));
            answered(state, Answer::SynAck, 1..=20);
            (1..=100).for_each(|port| probe(state, ProbeClass::Ack, Reach::Closed, port));
        });
        assert_eq!(mixed, Missed::default());
    }

    #[test]
    fn a_reset_at_the_end_of_a_connection_refuses_nothing() {
        let ended = of_syns(|state| {
            syns(state, Reach::Open);
            answered(state, Answer::SynAck, 1..=20);
            answered(state, Answer::Reset, 1..=20);
        });
        assert_eq!(ended, Missed::default());
    }

    #[test]
    fn pings_and_datagrams_neither_hide_closed_ports_nor_make_up_for_them() {
        let pinged = of_syns(|state| {
            (1..=20).for_each(|port| probe(state, ProbeClass::Syn, Reach::Closed, port));
            (1..=100).for_each(|_| probe(state, IcmpEcho, Reach::Unknown, 0));
        });
        assert!(pinged.proven >= 13, "{pinged:?}");
        let datagrams = of_syns(|state| {
            (1..=9).for_each(|_| probe(state, ProbeClass::Syn, Reach::Closed, 80));
            (40_000..40_200).for_each(|port| probe(state, ProbeClass::Udp, Reach::Closed, port));
        });
        assert!(datagrams.proven <= 9, "{datagrams:?}");
    }
}
