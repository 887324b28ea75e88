//! `[rules.flood]` and `[rules.backscatter]`.

use std::time::Duration;

use super::super::{Severity, common::Common};
use crate::settings::Section;

/// Their settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// Sources never seen before, a second over the window.
    pub sources_per_second: u32,
}

/// `[rules.flood]` unless it is set.
pub(crate) const FLOOD: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(5), severity: Severity::Medium },
    sources_per_second: 1_000,
};

/// `[rules.backscatter]` unless it is set.
pub(crate) const BACKSCATTER: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Low },
    sources_per_second: 10,
};

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>, default: Self) -> Self {
        let settings = Self {
            common: Common::read(&mut section, default.common),
            sources_per_second: section.number(
                "sources_per_second",
                default.sources_per_second,
                1..=100_000_000,
            ),
        };
        section.finish();
        settings
    }
}
