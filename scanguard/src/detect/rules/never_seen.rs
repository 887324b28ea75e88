//! Never seen before: a source meets a service that nobody used while the sensor was learning (a back door in use, or a
//! newly started service), or completes the first connection from a country or an autonomous system. The rule is off
//! by default: it needs some time to learn what is usual.
//!
//! Only a completed connection proves the origin of a source. With forged addresses anybody could appear to come from
//! everywhere, and the sensor would learn it.

use std::{cell::RefCell, collections::HashSet, hash::Hash, time::Duration};

use scanguard_common::{outcome::ProbeClass, wire::protocol};

use super::{Common, entry::Entry};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        geo::{Country, Origin},
        missed::{self, ATTEMPTS},
    },
    observe::activity::Activity,
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "never_seen",
    // Unusual activity alone is no scan.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(NeverSeen::new(settings)),
};

/// `[rules.never_seen]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// How long it learns after the start.
    learning: Duration,
    /// Whether countries count, if there is a database.
    countries: bool,
    /// Whether autonomous systems count, if there is a database.
    asns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: false, window: Duration::from_secs(60), severity: Severity::Low },
            learning: Duration::from_secs(24 * 60 * 60),
            countries: true,
            // A public server meets new ones each day.
            asns: false,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            learning: section.interval(
                "learning",
                default.learning,
                Interval::between(Duration::from_secs(60), Duration::from_secs(60 * 24 * 60 * 60)),
            ),
            countries: section.value("countries", default.countries, |_| Ok(())),
            asns: section.value("asns", default.asns, |_| Ok(())),
        };
        section.finish();
        settings
    }
}

/// Maximum number of remembered autonomous systems. About 80,000 exist; a database with many more is not trustworthy.
const MAX_ASNS: usize = 1 << 17;

/// Everything seen so far: at most 65,536 TCP ports, 676 countries, and [`MAX_ASNS`] autonomous systems.
#[derive(Default)]
struct Known {
    since: Option<Duration>,
    ports: HashSet<u16>,
    countries: HashSet<Country>,
    asns: HashSet<u32>,
}

impl Known {
    /// Names the parts of a source's origin that are new, and remembers them.
    fn new_origin(&mut self, origin: &Origin, settings: &Settings) -> Option<String> {
        let country = origin.country.filter(|_| settings.countries);
        let network = origin.network.as_ref().filter(|_| settings.asns);
        let new_country = country.filter(|country| is_new(&mut self.countries, *country, usize::MAX));
        let new_network = network.filter(|network| is_new(&mut self.asns, network.number, MAX_ASNS));
        match (new_country, new_network) {
            (Some(country), Some(network)) => Some(format!("{country} and from {network}")),
            (Some(country), None) => Some(country.to_string()),
            (None, Some(network)) => Some(network.to_string()),
            (None, None) => None,
        }
    }
}

/// Whether an item is new; it is remembered from now on. Without room nothing is new, since forgotten items would
/// otherwise be reported again.
fn is_new<T: Eq + Hash>(known: &mut HashSet<T>, one: T, most: usize) -> bool {
    (known.len() < most || known.contains(&one)) && known.insert(one)
}

/// The rule.
struct NeverSeen {
    settings: Settings,
    known: RefCell<Known>,
}

impl NeverSeen {
    /// Starts without knowledge.
    fn new(settings: Settings) -> Self {
        Self { settings, known: RefCell::default() }
    }
}

impl Rule for NeverSeen {
    fn name(&self) -> &'static str {
        RULE.name
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

    fn concerns(&self, new: &Activity) -> bool {
        // A connection may end long after its SYN.
        new.counts.of_any(self.classes()) > 0 || new.completed() > 0
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
        let has_completed = source.delta.activity.completed() > 0;
        let from = has_completed.then(|| known.new_origin(&source.origin(), &self.settings)).flatten();
        if is_learning {
            known.ports.extend(ports);
            return None;
        }
        let window = source.window(self.settings.common.window);
        let learned = Interval(self.settings.learning);
        if let Some(from) = from {
            let reason = format!(
                "a completed connection from {from}: none came from there in the {learned} that the \
                 sensor learned"
            );
            // The origin of the source is certain, but not its intent.
            return Some(Evidence { window, reason, certain: false, proof: Proof::Connection });
        }
        // Sampled targets do not say whether they were met. It is certain only if all probes met a service.
        if missed::probes(&source.delta.activity, ATTEMPTS) > 0 {
            return None;
        }
        let new: Vec<_> = ports.filter(|port| known.ports.insert(*port)).collect();
        let first = new.first()?;
        let reason = format!(
            "a connection to port {first}, which no source asked for in the {learned} that the sensor learned"
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        detect::{
            Confidence,
            geo::builder::{TempFile, asn, country, database},
            rules::testing::{NOBODY, Script, found},
            settings,
        },
    };

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

    /// 192.0.2.1 to .7 are in DE and AS 64500, .8 to .15 in JP and AS 64501, .16 to .31 in DE and AS 64502.
    fn located(settings: Settings) -> Script {
        let countries = TempFile::new(&database(
            "Test-Country",
            &[
                ("192.0.2.0/29", country("DE")),
                ("192.0.2.8/29", country("JP")),
                ("192.0.2.16/28", country("DE")),
            ],
        ));
        let networks = TempFile::new(&database(
            "Test-ASN",
            &[
                ("192.0.2.0/29", asn(64_500, "One")),
                ("192.0.2.8/29", asn(64_501, "Two")),
                ("192.0.2.16/28", asn(64_502, "Three")),
            ],
        ));
        let (country, asn) = (countries.0.display(), networks.0.display());
        let config = Config::parse(&format!("[geo]\ncountry = {country:?}\nasn = {asn:?}\n")).unwrap();
        let mut script = Script::new(Box::new(NeverSeen::new(settings)), settings::Settings::default());
        script.set_geo(config.geo);
        script
    }

    fn said(script: &mut Script) -> Vec<(String, String)> {
        let opened = script.events().into_iter().filter(|event| event.kind.label() == "opened");
        opened.map(|event| (event.finding.source.to_ip().to_string(), event.finding.reason)).collect()
    }

    #[test]
    fn a_country_that_is_new_after_learning_is_told_once_with_where_it_is() {
        let mut script = located(Settings::default());
        script.open(1, 1, 443).completed(1).at(2 * DAY);
        script.open(2, 1, 443).completed(2).open(9, 1, 443).completed(9).open(17, 1, 443).completed(17);
        script.at(2 * DAY + 600).open(10, 1, 443).completed(10);
        let said = said(&mut script);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, "192.0.2.9");
        assert!(said[0].1.contains("completed connection from JP: none came from there"), "{}", said[0].1);
        let finding = &script.events()[0].finding;
        assert_eq!(finding.origin.to_string(), "JP, AS64501 Two");
        assert_eq!((finding.severity, finding.confidence), (Severity::Low, Confidence::Medium));
    }

    #[test]
    fn an_autonomous_system_that_is_new_is_told_where_that_is_asked_for() {
        let mut script = located(Settings { asns: true, ..Settings::default() });
        script.open(1, 1, 443).completed(1).at(2 * DAY);
        script.open(17, 1, 443).completed(17).open(9, 1, 443).completed(9);
        let said = said(&mut script);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].1.contains("from JP and from AS64501 Two: none"), "{said:?}");
        assert!(said[1].1.contains("from AS64502 Three: none"), "{said:?}");
    }

    #[test]
    fn a_connection_that_ends_long_after_it_was_asked_for_tells_too() {
        let mut script = located(Settings::default());
        script.open(1, 1, 443).completed(1).at(DAY - 600).open(9, 1, 443).at(DAY + 600).completed(9);
        assert_eq!(said(&mut script).len(), 1);
    }

    #[test]
    fn addresses_that_may_be_forged_neither_teach_nor_tell() {
        let mut script = located(Settings::default());
        script.open(1, 1, 443).completed(1).open(9, 1, 443).at(2 * DAY).open(10, 1, 443);
        assert_eq!(said(&mut script), []);
        script.at(2 * DAY + 10).open(9, 1, 443).completed(9);
        assert_eq!(said(&mut script).len(), 1, "the forged ones taught nothing");
    }

    #[test]
    fn with_countries_turned_off_none_is_told() {
        let mut script = located(Settings { countries: false, ..Settings::default() });
        script.open(1, 1, 443).completed(1).at(2 * DAY).open(9, 1, 443).completed(9);
        assert_eq!(said(&mut script), []);
    }

    #[test]
    fn what_finds_no_room_is_not_told() {
        let mut known = HashSet::from([1, 2]);
        assert_eq!([3, 1].map(|one| is_new(&mut known, one, 2)), [false, false]);
        assert!(is_new(&mut known, 3, 3) && !is_new(&mut known, 3, 3));
    }

    #[test]
    fn what_is_asked_for_in_vain_is_not() {
        let found = found(rule(), |script| {
            script.open(1, 1, 443).at(2 * DAY).syn(2, 1, 31_337);
        });
        assert_eq!(found, NOBODY);
    }
}
