//! Settings of rules that count distinct services in a bitmap of one word.

use super::Common;
use crate::settings::Section;

/// `[rules.service_probe]` and `[rules.half_open_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    pub(super) common: Common,
    /// Threshold: distinct services.
    pub(super) services: u32,
}

impl Settings {
    pub(super) fn read(mut section: Section<'_, '_>, default: Self) -> Self {
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // Above 150 the bitmap of 64 bits is not precise enough.
            services: section.number("services", default.services, 2..=150),
        };
        section.finish();
        settings
    }
}
