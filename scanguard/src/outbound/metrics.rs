//! Metrics of those who ask others.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{
    baseline::{self, Baseline},
    table::Actors,
};
use crate::metrics::{Register, level, raise};

/// The metrics.
pub struct OutboundMetrics {
    enabled: IntGauge,
    actors: IntGauge,
    actors_forgotten: IntCounter,
    histories_forgotten: IntCounter,
    programs: IntGauge,
    programs_forgotten: IntCounter,
    news_untold: IntCounter,
    blocked: IntGauge,
    blocks: IntCounterVec,
    poll_errors: IntCounter,
    state_errors: IntCounter,
}

impl OutboundMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let most = i64::try_from(baseline::MOST).unwrap_or(i64::MAX);
        register
            .gauge(
                "scanguard_outbound_programs_limit",
                "Programs that use the network that can be remembered.",
            )?
            .set(most);
        Ok(Self {
            enabled: register.gauge(
                "scanguard_outbound_enabled",
                "Whether what leaves is looked at: it is wanted (outbound.enabled), and the programs are loaded.",
            )?,
            actors: register.gauge("scanguard_outbound_actors", "Actors that are known now.")?,
            actors_forgotten: register.counter(
                "scanguard_outbound_actors_forgotten_total",
                "Actors that were forgotten because there were too many.",
            )?,
            histories_forgotten: register.counter(
                "scanguard_outbound_histories_forgotten_total",
                "Histories of actors that were forgotten because there were too many.",
            )?,
            programs: register
                .gauge("scanguard_outbound_programs", "Programs that use the network, as far as was learned.")?,
            programs_forgotten: register.counter(
                "scanguard_outbound_programs_forgotten_total",
                "Programs that were forgotten because there were too many: they are new when they are seen again.",
            )?,
            news_untold: register.counter(
                "scanguard_outbound_news_untold_total",
                "New programs that were not told because their unit had too many of them within an hour.",
            )?,
            blocked: register.gauge(
                "scanguard_outbound_blocked",
                "Actors whose attempts are refused, or would be in a dry run (outbound.response).",
            )?,
            blocks: register.counters(
                "scanguard_outbound_blocks_total",
                "Decisions about actors that scan: blocked, counted (in a dry run), or why not: never (this host depends \
                 on it), breaker (too many within a minute), full, failed (the kernel did not take it).",
                &["outcome"],
            )?,
            poll_errors: register.counter(
                "scanguard_outbound_poll_errors_total",
                "Polls of what leaves that failed; the next poll reads the same data.",
            )?,
            state_errors: register.counter(
                "scanguard_outbound_state_errors_total",
                "Times that the file of programs that use the network could not be read or written.",
            )?,
        })
    }

    /// Whether what leaves is looked at.
    pub fn enabled(&self, enabled: bool) {
        self.enabled.set(enabled.into());
    }

    /// How things stand after a poll. `histories` is how many histories were forgotten for want of room.
    pub fn state(&self, actors: Option<&Actors>, histories: u64, baseline: &Baseline) {
        raise(&self.histories_forgotten, histories);
        if let Some(actors) = actors {
            self.actors.set(level(actors.len()));
            raise(&self.actors_forgotten, actors.forgotten());
        }
        self.programs.set(level(baseline.len()));
        raise(&self.programs_forgotten, baseline.forgotten());
        raise(&self.news_untold, baseline.untold());
    }

    /// Counts a decision about an actor.
    pub fn decided(&self, outcome: &str) {
        self.blocks.with_label_values(&[outcome]).inc();
    }

    /// How many actors are blocked.
    pub fn blocked(&self, count: usize) {
        self.blocked.set(level(count));
    }

    /// A poll failed.
    pub fn poll_failed(&self) {
        self.poll_errors.inc();
    }

    /// The file could not be read or written.
    pub fn state_failed(&self) {
        self.state_errors.inc();
    }
}
