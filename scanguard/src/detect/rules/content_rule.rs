//! The settings and words that content rules share.

use super::plural;
use crate::{content::Web, detect::Severity, observe::distinct::Estimate, settings::Section};

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
