//! `[history]` of the configuration.

use std::time::Duration;

use crate::settings::{Interval, Section};

/// `[history]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How long a quiet source is remembered. No rule looks further back.
    pub horizon: Duration,
    /// How many sources have a history.
    pub max_sources: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { horizon: Duration::from_secs(24 * 60 * 60), max_sources: 131_072 }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            horizon: section.interval(
                "horizon",
                default.horizon,
                Interval::between(Duration::from_secs(60), Duration::from_secs(7 * 24 * 60 * 60)),
            ),
            max_sources: section.number("max_sources", default.max_sources, 16..=1 << 24),
        };
        section.finish();
        settings
    }
}
