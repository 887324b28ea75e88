//! What rules about content have in common.

use std::time::Duration;

use super::plural;
use crate::{
    config::Section,
    content::{Heard, Web},
    detect::Severity,
    observe::distinct::Estimate,
};

/// Different things a second, where it is unknown whether they were there: no crawler, link checker or monitor is as fast by
/// default, list tools are ten times faster.
pub(super) const HASTE_OF_TOOLS: u64 = 10;

/// What every rule about content has; how far back it looks is `content.window`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Common {
    /// Whether it is used.
    pub enabled: bool,
    /// How bad its findings are.
    pub severity: Severity,
}

impl Common {
    pub(super) fn new(severity: Severity) -> Self {
        Self { enabled: true, severity }
    }

    pub(super) fn read(section: &mut Section<'_, '_>, default: Self) -> Self {
        Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            severity: section.value("severity", default.severity, |_| Ok(())),
        }
    }
}

/// Whether so many within the time are more than so many a second.
pub(super) fn is_faster(heard: &Heard, many: u64, a_second: u64) -> bool {
    let took = heard.last.saturating_sub(heard.since).max(Duration::from_secs(1));
    u128::from(many) * 1_000 > u128::from(a_second) * took.as_millis()
}

/// "12 requests".
pub(super) fn count(count: u64, one: &str) -> String {
    format!("{count} {}", plural(count, one))
}

/// "about 12 paths".
pub(super) fn estimate(estimate: Estimate, one: &str) -> String {
    format!("{estimate} {}", plural(estimate.value, one))
}

/// " (12 of them failed)", where answers were seen.
pub(super) fn failed(web: &Web) -> String {
    match (web.met + web.moot, web.missed) {
        (0, 0) => " (no answers were seen)".to_owned(),
        (_, missed) => format!(" ({missed} failed)"),
    }
}
