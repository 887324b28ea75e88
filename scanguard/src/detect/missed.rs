//! Bounds for how many distinct services or addresses a source tried and missed.
//!
//! The kernel keeps one bitmap for all probes of a source that met nothing, and counts the reach of all its probes.
//! These give bounds, not numbers. A rule gets the number that was *proven* to be missed, and the number that was
//! *possibly* missed: a probe may have met a service that this host cannot see, because it forwards or because NAT
//! publishes the port. A rule must never treat the possible number as proven.

use scanguard_common::{
    oracle::Reach,
    outcome::{
        Answer,
        ProbeClass::{self, IcmpAddressMask, IcmpEcho, IcmpInformation, IcmpTimestamp},
    },
};

use crate::observe::{activity::Activity, sampled::Kind};

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

/// The result of those probes of some classes whose reach the sockets of this host do not show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Unknown {
    /// Answered by SYN and ACK: a service exists.
    met: u64,
    /// Neither met nor refused, as far as this host knows.
    unsettled: u64,
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
    let distinct = activity.sampled.share_of_services(activity.services().value, kinds);
    bounds(activity, classes, distinct)
}

/// Distinct addresses that probes of these classes tried.
pub fn hosts(activity: &Activity, classes: &[ProbeClass], kinds: &[Kind]) -> Missed {
    let distinct = activity.sampled.share_of_hosts(activity.hosts().value, kinds);
    bounds(activity, classes, distinct)
}

fn bounds(activity: &Activity, classes: &[ProbeClass], distinct: u64) -> Missed {
    let missed = probes(activity, classes);
    let distinct = distinct.min(missed);
    let unknown = unknown(activity, missed);
    // Each attempt with unknown reach may account for one of the distinct targets, and so may each attempt that
    // met a service beyond this host.
    let possible = distinct.saturating_sub(unknown.met);
    Missed { proven: possible.saturating_sub(unknown.unsettled), possible }
}

fn unknown(activity: &Activity, missed: u64) -> Unknown {
    let never_told = activity.counts.of_any(WITHOUT_SOCKETS).saturating_sub(activity.reached(Reach::Dark));
    let unknown = activity.reached(Reach::Unknown).saturating_sub(never_told).min(missed);
    // Answers of this host's own sockets belong to probes whose reach is known.
    let met = activity.answered(Answer::SynAck).saturating_sub(activity.reached(Reach::Open)).min(unknown);
    let refusals = activity.answered(Answer::Reset).saturating_add(activity.answered(Answer::Unreachable));
    let refused = refusals.saturating_sub(activity.reached(Reach::Closed)).min(unknown - met);
    Unknown { met, unsettled: unknown - met - refused }
}

/// Upper bound for the distinct services that were met, on this host or beyond it.
pub fn successes(activity: &Activity) -> u64 {
    let missed = probes(activity, ATTEMPTS);
    let beyond = unknown(activity, missed).met.min(activity.services().value);
    activity.open_services().value.max(activity.open_hosts().value) + beyond
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use scanguard_common::{
        account::{self, SourceState, Unshared},
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

    fn probe(state: &mut SourceState, class: ProbeClass, reach: Reach, port: u16) {
        let protocol = if DATAGRAMS.contains(&class) {
            17
        } else if REQUESTS.contains(&class) {
            1
        } else {
            6
        };
        let flow = Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol, port },
            source_port: 40_000,
            reserved: 0,
        };
        // SAFETY: an exclusive reference.
        let _news = unsafe { account::record::<Unshared>(state, class.index(), reach, &flow, 1, 7) };
    }

    fn answered(state: &mut SourceState, answer: Answer, times: u32) {
        for _ in 0..times {
            // SAFETY: an exclusive reference.
            unsafe { account::record_answer::<Unshared>(state, answer, 1) };
        }
    }

    fn of_syns(play: impl FnOnce(&mut SourceState)) -> Missed {
        services(&activity(play), ATTEMPTS, Kind::TCP)
    }

    fn about(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) <= 2
    }

    #[test]
    fn closed_is_proven_and_unknown_is_only_possible() {
        let closed = of_syns(|state| (1..=20).for_each(|p| probe(state, ProbeClass::Syn, Reach::Closed, p)));
        assert!(about(closed.proven, 20) && about(closed.possible, 20), "{closed:?}");
        let unknown =
            of_syns(|state| (1..=20).for_each(|p| probe(state, ProbeClass::Syn, Reach::Unknown, p)));
        assert!(unknown.proven == 0 && about(unknown.possible, 20), "{unknown:?}");
        let open = of_syns(|state| (1..=20).for_each(|p| probe(state, ProbeClass::Syn, Reach::Open, p)));
        assert_eq!(open, Missed::default());
    }

    #[test]
    fn answers_settle_what_is_unknown() {
        let unknown = |state: &mut SourceState| {
            (1..=20).for_each(|port| probe(state, ProbeClass::Syn, Reach::Unknown, port));
        };
        let refused = of_syns(|state| {
            unknown(state);
            answered(state, Answer::Reset, 20);
        });
        assert!(about(refused.proven, 20), "{refused:?}");
        let met = of_syns(|state| {
            unknown(state);
            answered(state, Answer::SynAck, 20);
        });
        assert!(met.proven == 0 && met.possible <= 2, "{met:?}");
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
