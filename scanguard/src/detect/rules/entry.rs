//! The form in which a rule's file describes the rule to the registry.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use super::{Common, content_rule};
use crate::{detect::Rule, settings::Section};

/// The description of a rule. `S` is the type of its settings.
pub(super) struct Entry<S> {
    /// Its name in findings, metrics and configuration.
    pub name: &'static str,
    /// Whether its findings may ban by default (`response.rules` can change that). Only rules that are certain enough
    /// about a scan have this set.
    pub bans: bool,
    /// Its default settings.
    pub default: fn() -> S,
    /// Reads its section of the configuration.
    pub read: fn(Section<'_, '_>) -> S,
    /// The part of its settings that all rules share.
    pub basics: fn(&S) -> Basics,
    /// Builds the rule from its settings.
    pub build: fn(S) -> Box<dyn Rule>,
}

/// The settings that all rules share.
pub(super) struct Basics {
    /// Whether the rule is used.
    pub enabled: bool,
    /// How far back the rule looks; none means `content.window`.
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

/// An [`Entry`] with any type of settings.
pub(super) trait Registered: Sync {
    /// [`Entry::name`].
    fn name(&self) -> &'static str;
    /// [`Entry::bans`].
    fn bans(&self) -> bool;
    /// The rule with its defaults.
    fn by_default(&'static self) -> Arc<dyn Configured>;
    /// The rule with the settings of its section.
    fn read(&'static self, section: Section<'_, '_>) -> Arc<dyn Configured>;
}

/// A rule with settings of any type.
pub(super) trait Configured: Any + fmt::Debug + Send + Sync {
    /// [`Entry::name`].
    fn name(&self) -> &'static str;
    /// [`Entry::basics`] of its settings.
    fn basics(&self) -> Basics;
    /// [`Entry::build`] of its settings.
    fn build(&self) -> Box<dyn Rule>;
    /// Whether `other` is the same rule with the same settings.
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
