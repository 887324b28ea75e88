//! The settings and words that content rules share.

use super::plural;
use crate::{
    content::{ContentStats, Web},
    detect::{Confidence, Severity},
    observe::distinct::Estimate,
    settings::Section,
};

/// The settings that every content rule has. The time that it looks back is `content.window`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Common {
    /// Whether the rule is used.
    pub(super) enabled: bool,
    /// The severity of its findings.
    pub(super) severity: Severity,
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

/// For a source that has used this host for long, thresholds are so many times as high.
const REGULAR: u64 = 4;
/// So many times the threshold are a scan even of such a source. An attacker can earn this credit.
const REGULAR_SCANS: u64 = 16;

/// The confidence of a rule with two grades of evidence. Each is asked whether it suffices for so many times the
/// threshold.
///
/// * `own`: the source did it by itself, for certain. This is `High`.
/// * `told`: it may be somebody else's work, such as a page's that made its visitor do it. This is `Medium`.
pub(super) fn graded(
    stats: &ContentStats,
    own: impl Fn(u64) -> bool,
    told: impl Fn(u64) -> bool,
) -> Option<Confidence> {
    let (times, times_for_high) = if stats.is_regular { (REGULAR, REGULAR_SCANS) } else { (1, 1) };
    if own(times_for_high) {
        return Some(Confidence::High);
    }
    (own(times) || told(times)).then_some(Confidence::Medium)
}

/// "12 requests".
pub(super) fn count(count: u64, one: &str) -> String {
    format!("{count} {}", plural(count, one))
}

/// "about 12 paths".
pub(super) fn estimate(estimate: Estimate, one: &str) -> String {
    format!("{estimate} {}", plural(estimate.value, one))
}

/// " (12 of them failed)", if answers were seen.
pub(super) fn failed(web: &Web) -> String {
    match (web.met + web.moot, web.missed) {
        (0, 0) => " (no answers were seen)".to_owned(),
        (_, missed) => format!(" ({missed} failed)"),
    }
}
