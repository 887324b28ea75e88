//! `[rules.prefix_scan]`.

use std::time::Duration;

use super::super::{Severity, common::Common};
use crate::settings::Section;

/// `[rules.prefix_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The settings that every rule has.
    pub common: Common,
    /// Threshold: number of sources in a /56. Wider prefixes need more, see `Width` in `prefixes.rs`.
    pub sources: u32,
    /// Threshold: distinct closed services that they tried together.
    pub services: u32,
    /// The same for addresses.
    pub hosts: u32,
    /// Threshold: number of sources, or of narrower prefixes, with a finding of their own.
    pub found: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common {
                enabled: true,
                window: Duration::from_secs(60 * 60),
                severity: Severity::Medium,
            },
            sources: 8,
            services: 30,
            hosts: 30,
            found: 4,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            sources: section.number("sources", default.sources, 2..=100),
            services: section.number("services", default.services, 2..=150),
            hosts: section.number("hosts", default.hosts, 2..=80),
            found: section.number("found", default.found, 2..=100),
        };
        section.finish();
        settings
    }
}
