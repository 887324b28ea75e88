//! Never seen before: a service is met that nobody asked for while the sensor was learning (a back door that is used,
//! a service that somebody started). Off by default: it needs to run for a while to know what is usual.

use std::{cell::RefCell, collections::HashSet, time::Duration};

use scanguard_common::{outcome::ProbeClass, wire::protocol};

use super::Common;
use crate::{
    config::{Interval, Section},
    detect::{
        Evidence, Rule, Severity, Source, Technique,
        missed::{self, ATTEMPTS},
    },
};

/// `[rules.never_seen]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// What every rule has.
    pub common: Common,
    /// How long it learns after the start.
    pub learning: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: false, window: Duration::from_secs(60), severity: Severity::Low },
            learning: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            learning: section.interval(
                "learning",
                default.learning,
                Interval::between(Duration::from_secs(60), Duration::from_secs(60 * 24 * 60 * 60)),
            ),
        };
        section.finish();
        settings
    }
}

/// What was asked for so far: TCP ports, 65,536 at most.
#[derive(Default)]
struct Known {
    since: Option<Duration>,
    ports: HashSet<u16>,
}

/// The rule.
pub(super) struct NeverSeen {
    settings: Settings,
    known: RefCell<Known>,
}

impl NeverSeen {
    /// Knows nothing.
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, known: RefCell::default() }
    }
}

impl Rule for NeverSeen {
    fn name(&self) -> &'static str {
        "never_seen"
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.settings.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        crate::detect::NOT_AT_ONCE
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let known = &mut *self.known.borrow_mut();
        let is_learning =
            source.at.saturating_sub(*known.since.get_or_insert(source.at)) < self.settings.learning;
        let samples = source.delta.samples.iter();
        let ports = samples
            .filter(|sample| sample.taken == 1 && sample.protocol == protocol::TCP)
            .map(|sample| sample.port);
        if is_learning {
            known.ports.extend(ports);
            return None;
        }
        // The examples do not say what they met: only where all met something it is certain.
        if missed::probes(&source.delta.activity, ATTEMPTS) > 0 {
            return None;
        }
        let new: Vec<_> = ports.filter(|port| known.ports.insert(*port)).collect();
        let first = new.first()?;
        let reason = format!(
            "a connection to port {first}, which nobody asked for in the {} that the sensor learned",
            Interval(self.settings.learning)
        );
        Some(Evidence { window: source.window(self.settings.common.window), reason, proven: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::testing::{NOBODY, found};

    const DAY: u64 = 24 * 60 * 60;

    fn rule() -> Box<dyn Rule> {
        Box::new(NeverSeen::new(Settings::default()))
    }

    #[test]
    fn a_service_that_is_new_after_learning_is_found_once() {
        let found = found(rule(), |script| {
            script.open(1, 1, 443).at(2 * DAY).open(2, 1, 443).open(3, 1, 31_337);
            script.at(2 * DAY + 600).open(4, 1, 31_337);
        });
        assert_eq!(found, [3]);
    }

    #[test]
    fn what_is_asked_for_in_vain_is_not() {
        let found = found(rule(), |script| {
            script.open(1, 1, 443).at(2 * DAY).syn(2, 1, 31_337);
        });
        assert_eq!(found, NOBODY);
    }
}
