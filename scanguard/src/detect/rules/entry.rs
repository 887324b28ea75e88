//! How a rule's own file describes the rule to the registry.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use super::{Common, content_rule};
use crate::{detect::Rule, settings::Section};

/// A rule as its file describes it. `S` are its settings.
pub(super) struct Entry<S> {
    /// Its name in findings, metrics and configuration.
    pub name: &'static str,
    /// Whether its findings may ban unless `response.rules` says otherwise: only if it says with enough certainty that
    /// a source scans.
    pub bans: bool,
    /// Its settings where the configuration says nothing.
    pub default: fn() -> S,
    /// Reads its section of the configuration.
    pub read: fn(Section<'_, '_>) -> S,
    /// What its settings have in common with those of all rules.
    pub basics: fn(&S) -> Basics,
    /// The rule itself.
    pub build: fn(S) -> Box<dyn Rule>,
}

/// What the settings of every rule say.
pub(super) struct Basics {
    /// Whether it is used.
    pub enabled: bool,
    /// How far back it looks; none: as far as `content.window` says.
    pub window: Option<Duration>,
}

impl From<Common> for Basics {
    fn from(common: Common) -> Self {
        Self { enabled: common.enabled, window: Some(common.window) }
    }
}

impl From<content_rule::Common> for Basics {
    fn from(common: content_rule::Common) -> Self {
        Self { enabled: common.enabled, window: None }
    }
}

/// An [`Entry`], whatever its settings are.
pub(super) trait Registered: Sync {
    /// [`Entry::name`].
    fn name(&self) -> &'static str;
    /// [`Entry::bans`].
    fn bans(&self) -> bool;
    /// The rule with its defaults.
    fn by_default(&'static self) -> Arc<dyn Configured>;
    /// The rule with what its section says.
    fn read(&'static self, section: Section<'_, '_>) -> Arc<dyn Configured>;
}

/// A rule with its settings, whatever they are.
pub(super) trait Configured: Any + fmt::Debug + Send + Sync {
    /// [`Entry::name`].
    fn name(&self) -> &'static str;
    /// [`Entry::basics`] of its settings.
    fn basics(&self) -> Basics;
    /// [`Entry::build`] of its settings.
    fn build(&self) -> Box<dyn Rule>;
    /// Whether the other is the same rule with the same settings.
    fn equals(&self, other: &dyn Configured) -> bool;
}

impl PartialEq for dyn Configured {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

struct WithSettings<S: 'static> {
    entry: &'static Entry<S>,
    settings: S,
}

impl<S: Copy + fmt::Debug + PartialEq + Send + Sync> Registered for Entry<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bans(&self) -> bool {
        self.bans
    }

    fn by_default(&'static self) -> Arc<dyn Configured> {
        Arc::new(WithSettings { entry: self, settings: (self.default)() })
    }

    fn read(&'static self, section: Section<'_, '_>) -> Arc<dyn Configured> {
        Arc::new(WithSettings { entry: self, settings: (self.read)(section) })
    }
}

impl<S: Copy + fmt::Debug + PartialEq + Send + Sync> Configured for WithSettings<S> {
    fn name(&self) -> &'static str {
        self.entry.name
    }

    fn basics(&self) -> Basics {
        (self.entry.basics)(&self.settings)
    }

    fn build(&self) -> Box<dyn Rule> {
        (self.entry.build)(self.settings)
    }

    fn equals(&self, other: &dyn Configured) -> bool {
        let other: &dyn Any = other;
        let other = other.downcast_ref::<Self>();
        other.is_some_and(|other| self.entry.name == other.entry.name && self.settings == other.settings)
    }
}

impl<S: fmt::Debug> fmt::Debug for WithSettings<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.entry.name).field(&self.settings).finish()
    }
}
