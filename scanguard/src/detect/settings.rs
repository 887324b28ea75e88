//! `[findings]` of the configuration.

use std::time::Duration;

use crate::settings::{Interval, Section};

/// `[findings]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// A finding is closed when its rule has not matched for this long.
    pub quiet: Duration,
    /// Maximum number of open findings; beyond that, those that are worth least give way.
    pub max_open: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { quiet: Duration::from_secs(5 * 60), max_open: 10_000 }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            quiet: section.interval(
                "quiet",
                default.quiet,
                Interval::between(Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)),
            ),
            max_open: section.number("max_open", default.max_open, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}
