//! Metrics of connections to the metrics listener and to the control socket.

use prometheus::{IntCounterVec, IntGaugeVec};

use crate::metrics::{Register, level};

/// The listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    /// The metrics listener.
    Metrics,
    /// The control socket.
    Control,
}

impl Listener {
    const ALL: [Self; 2] = [Self::Metrics, Self::Control];

    const fn label(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Control => "control",
        }
    }
}

/// Why the agent ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CutOff {
    /// It made room for a newer one.
    Displaced,
    /// There was no room, and no other connection could be removed.
    NoRoom,
    /// No whole head of a request arrived in time.
    HeadTimeout,
    /// A request and its answer took too long.
    RequestTimeout,
    /// The client did not take its answer.
    Stalled,
    /// The head of a request was too large.
    HeadTooLarge,
    /// The body of a request was too large.
    BodyTooLarge,
    /// It did not speak HTTP.
    Invalid,
    /// It failed before HTTP: at TLS, or at the check of the peer.
    Handshake,
}

impl CutOff {
    const ALL: [Self; 9] = [
        Self::Displaced,
        Self::NoRoom,
        Self::HeadTimeout,
        Self::RequestTimeout,
        Self::Stalled,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::Invalid,
        Self::Handshake,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Displaced => "displaced",
            Self::NoRoom => "no_room",
            Self::HeadTimeout => "head_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::Stalled => "stalled",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::Invalid => "invalid",
            Self::Handshake => "handshake",
        }
    }
}

/// Why a request to the metrics listener was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unauthorized {
    /// It named no user.
    NoCredentials,
    /// There is no such user, or the password is wrong.
    Wrong,
    /// Too many passwords are waiting for comparison.
    Busy,
}

impl Unauthorized {
    const ALL: [Self; 3] = [Self::NoCredentials, Self::Wrong, Self::Busy];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Wrong => "wrong_credentials",
            Self::Busy => "busy",
        }
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
                "Connections that there can be at once; beyond that, who has kept the agent waiting longest makes room.",
                &["listener"],
            )?,
            accepted: register.counters(
                "scanguard_listener_accepted_total",
                "Connections that were accepted.",
                &["listener"],
            )?,
            accept_errors: register.counters(
                "scanguard_listener_accept_errors_total",
                "Times that a connection could not be accepted, such as for want of file descriptors.",
                &["listener"],
            )?,
            cut_off: register.counters(
                "scanguard_listener_cut_off_total",
                "Connections that the agent ended, by why: too slow, too large, no HTTP, or to make room.",
                &["listener", "reason"],
            )?,
            unauthorized: register.counters(
                "scanguard_listener_unauthorized_total",
                "Requests to the metrics listener that were refused for want of a user's password, by reason.",
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
