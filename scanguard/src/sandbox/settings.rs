//! `[security]` of the configuration.

use crate::settings::Section;

/// `[security]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether the agent gives up what it does not need any more after attaching.
    pub sandbox: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sandbox: true }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self { sandbox: section.value("sandbox", Self::default().sandbox, |_| Ok(())) };
        section.finish();
        settings
    }
}
