//! Settings of rules that count distinct services in a bitmap of one word.

use super::Common;
use crate::{
    detect::{
        Evidence, Severity,
        missed::{self, ATTEMPTS},
    },
    observe::sampled::Kind,
    settings::Section,
};

/// The severity of a finding about this many services that were met. A monitor has their addresses and ports from its
/// configuration, so few of those that it tries are closed. So it is `info` as long as less than half as many are.
pub(super) fn severity(common: Common, evidence: &Evidence, services: u64) -> Severity {
    let missed = missed::services(&evidence.window.activity, ATTEMPTS, Kind::TCP).proven;
    if missed * 2 < services { common.severity.min(Severity::Info) } else { common.severity }
}

/// `[rules.half_open_scan]`.
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
