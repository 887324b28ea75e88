//! `[rules.distributed_scan]`.

use std::time::Duration;

use super::super::{
    Severity,
    common::{Common, least},
};
use crate::settings::Section;

/// `[rules.distributed_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The settings that every rule has.
    pub common: Common,
    /// Threshold: number of sources.
    pub sources: u32,
    /// Threshold: services of one address, or addresses of one service, that only one source tried.
    pub items: u32,
    /// How many of these a source must have tried to count.
    pub items_per_source: u32,
    /// Threshold if each source tried fewer.
    pub spread_items: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(120), severity: Severity::Medium },
            sources: 5,
            items: 30,
            items_per_source: 3,
            spread_items: 300,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            sources: section.number("sources", default.sources, 2..=200),
            items: section.number("items", default.items, 2..=1_000),
            items_per_source: section.number("items_per_source", default.items_per_source, 2..=100),
            spread_items: section.number("spread_items", default.spread_items, 2..=1_000),
        };
        least(&section, ("items", settings.items), ("spread_items", settings.spread_items));
        section.finish();
        settings
    }
}
