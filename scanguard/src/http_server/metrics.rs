//! Metrics of connections to the metrics listener and to the control socket.

use prometheus::{IntCounterVec, IntGaugeVec};
use scanguard_common::numbered;

use crate::metrics::{Register, level};

numbered! {
    /// The listener.
    Listener {
        /// The metrics listener.
        Metrics = "metrics",
        /// The control socket.
        Control = "control",
    }
}

numbered! {
    /// Why the agent ended a connection.
    CutOff {
        /// It made room for a newer one.
        Displaced = "displaced",
        /// There was no room, and no other connection could be removed.
        NoRoom = "no_room",
        /// No whole head of a request arrived in time.
        HeadTimeout = "head_timeout",
        /// A request and its answer took too long.
        RequestTimeout = "request_timeout",
        /// The client did not take its answer.
        Stalled = "stalled",
        /// The head of a request was too large.
        HeadTooLarge = "head_too_large",
        /// The body of a request was too large.
        BodyTooLarge = "body_too_large",
        /// It did not speak HTTP.
        Invalid = "invalid",
        /// It failed before HTTP: at TLS, or at the check of the peer.
        Handshake = "handshake",
    }
}

numbered! {
    /// Why a request to the metrics listener was refused.
    Unauthorized {
        /// It named no user.
        NoCredentials = "no_credentials",
        /// There is no such user, or the password is wrong.
        Wrong = "wrong_credentials",
        /// Too many passwords are waiting for comparison.
        Busy = "busy",
        /// It came from another host, and nobody had logged in.
        Elsewhere = "elsewhere",
        /// It came by a proxy on this host, and nobody had logged in.
        Forwarded = "forwarded",
        /// It asked for a name that other hosts may have, and nobody had logged in.
        ForeignHost = "foreign_host",
    }
}

/// The metrics of all listeners.
#[derive(Clone)]
pub struct ListenerMetrics {
    connections: IntGaugeVec,
    limit: IntGaugeVec,
    accepted: IntCounterVec,
    accept_errors: IntCounterVec,
    cut_off: IntCounterVec,
    unauthorized: IntCounterVec,
}

impl ListenerMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            connections: register.gauges(
                "scanguard_listener_connections",
                "Connections to the metrics listener or the control socket.",
                &["listener"],
            )?,
            limit: register.gauges(
                "scanguard_listener_connections_limit",
                "Maximum number of connections at once; beyond that, the client that has kept the agent waiting \
                 longest is disconnected.",
                &["listener"],
            )?,
            accepted: register.counters(
                "scanguard_listener_accepted_total",
                "Connections that were accepted.",
                &["listener"],
            )?,
            accept_errors: register.counters(
                "scanguard_listener_accept_errors_total",
                "Connections that could not be accepted, for example because file descriptors ran out.",
                &["listener"],
            )?,
            cut_off: register.counters(
                "scanguard_listener_cut_off_total",
                "Connections that the agent ended, by reason: too slow, too large, no HTTP, or to make room.",
                &["listener", "reason"],
            )?,
            unauthorized: register.counters(
                "scanguard_listener_unauthorized_total",
                "Requests to the metrics listener that were refused: they lacked a user's password, or, where there are no \
                 users, did not come from this host itself; by reason.",
                &["reason"],
            )?,
        };
        for listener in Listener::ALL {
            let of = metrics.of(listener);
            of.connections(0);
            of.limit(0);
            let label = listener.label();
            metrics.accepted.with_label_values(&[label]);
            metrics.accept_errors.with_label_values(&[label]);
            for reason in CutOff::ALL {
                metrics.cut_off.with_label_values(&[label, reason.label()]);
            }
        }
        for reason in Unauthorized::ALL {
            metrics.unauthorized.with_label_values(&[reason.label()]);
        }
        Ok(metrics)
    }

    /// A request to the metrics listener was refused.
    pub fn unauthorized(&self, why: Unauthorized) {
        self.unauthorized.with_label_values(&[why.label()]).inc();
    }

    /// The metrics of one listener.
    pub fn of(&self, listener: Listener) -> ServerMetrics {
        ServerMetrics { all: self.clone(), listener: listener.label() }
    }
}

/// The metrics of one listener.
#[derive(Clone)]
pub struct ServerMetrics {
    all: ListenerMetrics,
    listener: &'static str,
}

impl ServerMetrics {
    /// How many connections there are.
    pub fn connections(&self, count: usize) {
        self.all.connections.with_label_values(&[self.listener]).set(level(count));
    }

    /// How many connections there can be.
    pub fn limit(&self, count: usize) {
        self.all.limit.with_label_values(&[self.listener]).set(level(count));
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        self.all.accepted.with_label_values(&[self.listener]).inc();
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.all.accept_errors.with_label_values(&[self.listener]).inc();
    }

    /// A connection was ended.
    pub fn cut_off(&self, why: CutOff) {
        self.all.cut_off.with_label_values(&[self.listener, why.label()]).inc();
    }
}
