//! `[content]` of the configuration.

use std::time::Duration;

use super::lists::Lists;
use crate::config::{Interval, Section};

/// `[content]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How far back rules look at what a source said: at least half of this, at most all of it.
    pub window: Duration,
    /// Sources of which it is remembered what they said.
    pub max_visitors: u32,
    /// Whether findings name no paths and no names, but count them.
    pub redact: bool,
    /// `[content.lists]`: the lists themselves, so that a configuration that was read is whole.
    pub lists: Lists,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60 * 60),
            max_visitors: 16_384,
            redact: false,
            lists: Lists::default(),
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            window: section.interval(
                "window",
                default.window,
                Interval::between(Duration::from_secs(60), Duration::from_secs(24 * 60 * 60)),
            ),
            max_visitors: section.number("max_visitors", default.max_visitors, 16..=1 << 20),
            redact: section.value("redact", default.redact, |_| Ok(())),
            lists: Lists::read(section.section("lists")),
        };
        section.finish();
        settings
    }
}
