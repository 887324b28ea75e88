//! `[rules.flood]` and `[rules.backscatter]`.

use std::time::Duration;

use super::super::{Severity, common::Common};
use crate::settings::Section;

/// The settings of one of the two rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The settings that every rule has.
    pub common: Common,
    /// Threshold: new sources per second, averaged over the window.
    pub sources_per_second: u32,
}

/// The defaults of `[rules.flood]`.
pub(crate) const FLOOD: Settings = Settings {
    common: Common { enabled: true, window: Duration::from_secs(5), severity: Severity::Medium },
    sources_per_second: 1_000,
};

/// The defaults of `[rules.backscatter]`.
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
