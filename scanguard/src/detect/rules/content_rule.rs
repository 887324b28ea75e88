//! What rules about content have in common.

use super::plural;
use crate::{content::Web, detect::Severity, observe::distinct::Estimate, settings::Section};

/// What every rule about content has; how far back it looks is `content.window`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Common {
    /// Whether it is used.
    pub(super) enabled: bool,
    /// How bad its findings are.
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

/// " (12 of them failed)", where answers were seen.
pub(super) fn failed(web: &Web) -> String {
    match (web.met + web.moot, web.missed) {
        (0, 0) => " (no answers were seen)".to_owned(),
        (_, missed) => format!(" ({missed} failed)"),
    }
}
