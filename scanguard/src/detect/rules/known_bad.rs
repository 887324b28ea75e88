//! Known-bad source: a source on a feed probes services that do not exist. A few probes are enough.

use std::time::Duration;

use scanguard_common::{oracle::Reach, outcome::ProbeClass};

use super::{Common, entry::Entry, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "known_bad",
    // A listed source is not yet a scan; `response.known_bad` bans networks of feeds.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(KnownBad(settings)),
};

/// `[rules.known_bad]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: probes that met no service.
    probes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(10 * 60), severity: Severity::Low },
            probes: 3,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            probes: section.number("probes", default.probes, 1..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// The rule. A listed source raises the severity, as it does for all rules.
struct KnownBad(Settings);

impl Rule for KnownBad {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &ProbeClass::ALL
    }

    fn soonest(&self) -> u32 {
        // So few novelties are no reason to look at every source at once; the poll finds it.
        crate::detect::NOT_AT_ONCE
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        source.listed?;
        let window = source.window(self.0.common.window);
        let counts = &window.activity.counts;
        // Backscatter comes from victims of floods.
        let missed = counts
            .total()
            .saturating_sub(window.activity.reached(Reach::Open))
            .saturating_sub(counts.of_any(&[ProbeClass::SynAck, ProbeClass::SynAckProbe]));
        if missed < u64::from(self.0.probes) {
            return None;
        }
        let reason = format!("{} within {}", probes_in_words(counts), Interval(self.0.common.window));
        let proven = window.activity.reached(Reach::Closed) + window.activity.reached(Reach::Dark) > 0;
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use crate::detect::{
        Severity,
        feeds::Feeds,
        rules::testing::{Script, address},
    };

    fn script() -> Script {
        let path = std::env::temp_dir().join(format!(
            "scanguard-known-bad-{}-{:?}.txt",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, "192.0.2.1\n").unwrap();
        let (feeds, problems) = Feeds::load(std::slice::from_ref(&path), &Feeds::default());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(problems, []);
        let mut script = Script::all_rules();
        script.set_feeds(feeds);
        script
    }

    #[test]
    fn a_few_probes_of_a_listed_source_are_enough() {
        let mut script = script();
        for port in 1..=4 {
            script.syn(1, 1, port).syn(2, 1, port);
        }
        let events = script.events();
        assert_eq!(events.len(), 1);
        let finding = &events[0].finding;
        assert_eq!((finding.rule, finding.source), ("known_bad", address(1)));
        assert!(finding.reason.contains("scanguard-known-bad"), "{}", finding.reason);
    }

    #[test]
    fn it_raises_the_severity_of_any_finding_and_is_no_second_one() {
        let mut script = script();
        for port in 1..=40 {
            script.syn(1, 1, port).syn(2, 1, port + 1_000);
        }
        let mut said: Vec<_> =
            script.events().iter().map(|event| (event.finding.rule, event.finding.severity)).collect();
        said.sort_unstable();
        assert_eq!(said, [("vertical_scan", Severity::Medium), ("vertical_scan", Severity::High)]);
    }

    #[test]
    fn connections_of_a_listed_client_are_told_of_no_more_than_others() {
        let mut script = script();
        for second in 0..100 {
            script.at(second).open(1, 1, 443).completed(1);
        }
        assert_eq!(script.events(), []);
    }
}
