//! Metrics of the kernel's side of outbound traffic.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use scanguard_common::actor::{MAX_ACTORS, MAX_BLOCKED, OPEN_PLACES, Seen, TARGET_PLACES, Tally};

use super::calls::Call;
use crate::metrics::{Register, level, raise};

/// The metrics.
pub struct ActorMetrics {
    attached: IntGaugeVec,
    seen: IntCounterVec,
    actors: IntGauge,
    evicted: IntCounter,
    missed: IntCounter,
}

/// The label of the program that sees connections, beside those of [`Call`].
const CONNECTIONS: &str = "connections";

impl ActorMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let limits = [
            ("scanguard_actors_limit", "Actors that the kernel's table can hold.", MAX_ACTORS),
            (
                "scanguard_outbound_targets_limit",
                "Targets of actors that the kernel has places for; new ones take the places of others.",
                TARGET_PLACES,
            ),
            (
                "scanguard_outbound_waiting_limit",
                "Connections of this host without an answer yet that the kernel has places for; what comes of one whose \
                 place is taken stays unknown.",
                OPEN_PLACES,
            ),
            ("scanguard_outbound_blocked_limit", "Actors that can be blocked at once.", MAX_BLOCKED),
        ];
        for (name, help, limit) in limits {
            register.gauge(name, help)?.set(limit.into());
        }
        let metrics = Self {
            attached: register.gauges(
                "scanguard_outbound_attached",
                "Whether the program for outbound traffic is attached: connections, or the calls that it sees.",
                &["program"],
            )?,
            seen: register.counters(
                "scanguard_outbound_total",
                "Connections, datagrams and packets of this host that the kernel programs looked at, by what became of \
                 them; a connection that is answered or fails counts under that, too. What could not be followed: \
                 unreadable, no_room, busy, displaced (what came of a connection stays unknown), overwritten (a target \
                 counts as new when it is asked again).",
                &["seen"],
            )?,
            actors: register.gauge(
                "scanguard_actors",
                "Programs, control groups and hosts behind this one in the kernel's table of who uses the network.",
            )?,
            evicted: register.counter(
                "scanguard_actors_evicted_total",
                "Actors that the kernel removed from its table to make room, those first that were quiet longest.",
            )?,
            missed: register.counter(
                "scanguard_connections_missed_total",
                "Changes of state of connections that the kernel did not show to the program, because it was running on \
                 that CPU: what comes of an attempt may stay unknown.",
            )?,
        };
        metrics.connections_attached(false);
        for call in Call::ALL {
            metrics.attached(call, false);
        }
        for seen in Seen::ALL {
            metrics.seen.with_label_values(&[seen.label()]);
        }
        Ok(metrics)
    }

    /// The program that sees connections looks at those of this host, or does not.
    pub fn connections_attached(&self, attached: bool) {
        self.attached.with_label_values(&[CONNECTIONS]).set(attached.into());
    }

    /// A program that sees calls is attached, or not.
    pub fn attached(&self, call: Call, attached: bool) {
        self.attached.with_label_values(&[call.label()]).set(attached.into());
    }

    /// A poll succeeded: the totals since the programs were loaded, how many actors there are, how many the kernel has
    /// evicted so far, and how many changes of state it did not show.
    pub fn polled(&self, tally: &Tally, actors: u64, evicted: u64, missed: u64) {
        for seen in Seen::ALL {
            raise(&self.seen.with_label_values(&[seen.label()]), tally.seen[seen.index()]);
        }
        self.actors.set(level(actors));
        raise(&self.evicted, evicted);
        raise(&self.missed, missed);
    }
}
