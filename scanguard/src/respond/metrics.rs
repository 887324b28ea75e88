//! Metrics of bans and shields. No address is ever a label.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use scanguard_common::numbered;

use super::{Mode, cause::Origin, refusal::Refusal};
use crate::metrics::{Register, level};

numbered! {
    /// A failure of the state file.
    StateError {
        /// It could not be read.
        Read = "read",
        /// It was corrupt, and moved aside.
        Corrupt = "corrupt",
        /// It could not be written.
        Write = "write",
    }
}

/// The metrics.
pub struct ResponseMetrics {
    mode: IntGaugeVec,
    bans: IntGaugeVec,
    limit: IntGauge,
    bans_total: IntCounterVec,
    refused: IntCounterVec,
    evicted: IntCounter,
    shields: IntGauge,
    shields_limit: IntGauge,
    shields_total: IntCounter,
    shields_evicted: IntCounter,
    feeds_left_out: IntGaugeVec,
    allowed: IntGauge,
    breaker_open: IntGauge,
    breaker_trips: IntCounter,
    state_errors: IntCounterVec,
}

impl ResponseMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            mode: register.gauges(
                "scanguard_response_mode",
                "The mode of the response: 1 for the mode in force.",
                &["mode"],
            )?,
            bans: register.gauges(
                "scanguard_bans",
                "Current bans, by origin; feed: networks that are banned because a feed lists them.",
                &["kind"],
            )?,
            limit: register.gauge("scanguard_bans_limit", "Maximum number of bans, without those of feeds.")?,
            bans_total: register.counters("scanguard_bans_total", "Bans that were made.", &["by"])?,
            refused: register.counters(
                "scanguard_bans_refused_total",
                "Bans that were not made, by reason: of findings that were opened or updated, and of orders.",
                &["reason"],
            )?,
            evicted: register.counter(
                "scanguard_bans_evicted_total",
                "Bans that were ended to make room for others.",
            )?,
            shields: register.gauge(
                "scanguard_shields",
                "Current shields: sources of which only packets that meet no service here are dropped.",
            )?,
            shields_limit: register.gauge("scanguard_shields_limit", "Maximum number of shields.")?,
            shields_total: register.counter(
                "scanguard_shields_total",
                "Shields that were made; a renewed shield is not counted again.",
            )?,
            shields_evicted: register.counter(
                "scanguard_shields_evicted_total",
                "Shields that were ended to make room for others.",
            )?,
            feeds_left_out: register.gauges(
                "scanguard_feed_networks_not_banned",
                "Networks on feeds that are not banned: they overlap with an allowed network or are too wide \
                 (refused), or there is no room (full).",
                &["reason"],
            )?,
            allowed: register.gauge("scanguard_allowed_networks", "Networks that are never banned.")?,
            breaker_open: register.gauge(
                "scanguard_circuit_breaker_open",
                "Whether the circuit breaker is open: rules would ban in too many networks within one minute, \
                 and new bans by rules are refused.",
            )?,
            breaker_trips: register.counter(
                "scanguard_circuit_breaker_trips_total",
                "Times that the circuit breaker opened because rules would ban in too many networks within one minute.",
            )?,
            state_errors: register.counters(
                "scanguard_state_file_errors_total",
                "Times that the state file could not be read or written, or was corrupt.",
                &["operation"],
            )?,
        };
        for by in Origin::LABELS {
            metrics.bans.with_label_values(&[by]);
            // Networks on feeds are not banned one by one.
            if by != "feed" {
                metrics.bans_total.with_label_values(&[by]);
            }
        }
        for reason in Refusal::LABELS {
            metrics.refused.with_label_values(&[reason]);
        }
        for operation in StateError::ALL {
            metrics.state_errors.with_label_values(&[operation.label()]);
        }
        metrics.feeds(0, 0);
        metrics.mode(Mode::default());
        Ok(metrics)
    }

    /// The mode in force.
    pub fn mode(&self, mode: Mode) {
        for one in Mode::ALL {
            self.mode.with_label_values(&[one.label()]).set(i64::from(one == mode));
        }
    }

    /// Sets the number of bans, by kind.
    pub fn bans(&self, counts: &[(&str, usize)]) {
        for (kind, count) in counts {
            self.bans.with_label_values(&[kind]).set(level(*count));
        }
    }

    /// The caps.
    pub fn limits(&self, max_bans: u32, max_shields: u32) {
        self.limit.set(max_bans.into());
        self.shields_limit.set(max_shields.into());
    }

    /// Sets the number of shields.
    pub fn shields(&self, count: usize) {
        self.shields.set(level(count));
    }

    /// A shield was made.
    pub fn shielded(&self) {
        self.shields_total.inc();
    }

    /// A shield was evicted.
    pub fn shield_evicted(&self) {
        self.shields_evicted.inc();
    }

    /// A ban was made.
    pub fn banned(&self, by: &Origin) {
        self.bans_total.with_label_values(&[by.label()]).inc();
    }

    /// A ban was not made.
    pub fn refused(&self, refusal: &Refusal) {
        self.refused.with_label_values(&[refusal.label()]).inc();
    }

    /// A ban was evicted.
    pub fn evicted(&self) {
        self.evicted.inc();
    }

    /// Networks on feeds that are not banned.
    pub fn feeds(&self, refused: u64, left_out: u64) {
        self.feeds_left_out.with_label_values(&["refused"]).set(refused.cast_signed());
        self.feeds_left_out.with_label_values(&["full"]).set(left_out.cast_signed());
    }

    /// Networks that are never banned.
    pub fn allowed(&self, count: usize) {
        self.allowed.set(level(count));
    }

    /// Whether the circuit breaker is open.
    pub fn breaker(&self, open: bool) {
        self.breaker_open.set(open.into());
    }

    /// The circuit breaker opened.
    pub fn tripped(&self) {
        self.breaker_trips.inc();
    }

    /// Counts a failure of the state file.
    pub fn state_failed(&self, error: StateError) {
        self.state_errors.with_label_values(&[error.label()]).inc();
    }
}
