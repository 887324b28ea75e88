//! The settings that all rules share.

use std::time::Duration;

use super::Severity;
use crate::settings::{Interval, Section};

/// The settings that every rule has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Common {
    /// Whether the rule is used.
    pub enabled: bool,
    /// How far back the rule looks.
    pub window: Duration,
    /// The severity of its findings.
    pub severity: Severity,
}

impl Common {
    /// The section of a rule that has no other settings.
    pub(super) fn alone(mut section: Section<'_, '_>, default: Self) -> Self {
        let settings = Self::read(&mut section, default);
        section.finish();
        settings
    }

    pub(super) fn read(section: &mut Section<'_, '_>, default: Self) -> Self {
        Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            severity: section.value("severity", default.severity, |_| Ok(())),
            window: section.interval(
                "window",
                default.window,
                Interval::between(Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)),
            ),
        }
    }
}

/// Refuses a pair of thresholds if the second, which is for weaker evidence, is below the first.
pub(super) fn least(section: &Section<'_, '_>, strong: (&str, u32), weak: (&str, u32)) {
    if weak.1 < strong.1 {
        let message = format!(
            "{} = {} is below {} = {}: weaker evidence takes no fewer",
            weak.0, weak.1, strong.0, strong.1
        );
        section.contradiction(&[weak.0, strong.0], message);
    }
}
