//! Packets that no stack sends, whatever their reach: NULL, FIN and Xmas scans, other odd flags, headers in fragments
//! or behind chains of other headers.
//!
//! The rules share one logic, and each has one line of the table.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{
    self, Fin, HeaderChain, Null, OddFlags, SynFin, SynRst, TinyFragment, Xmas,
};

use super::{Common, about, entry::Entry, plural, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique},
    settings::{Interval, Section},
};

/// The entry of `null_scan` in the registry.
pub(super) const NULL_SCAN: Entry<Settings> = entry(&NULL, |settings| Box::new(OddSegments(NULL, settings)));
/// The entry of `fin_scan` in the registry.
pub(super) const FIN_SCAN: Entry<Settings> = entry(&FIN, |settings| Box::new(OddSegments(FIN, settings)));
/// The entry of `xmas_scan` in the registry.
pub(super) const XMAS_SCAN: Entry<Settings> = entry(&XMAS, |settings| Box::new(OddSegments(XMAS, settings)));
/// The entry of `odd_flags` in the registry.
pub(super) const ODD_FLAGS: Entry<Settings> = entry(&ODD, |settings| Box::new(OddSegments(ODD, settings)));
/// The entry of `fragment_scan` in the registry.
pub(super) const FRAGMENT_SCAN: Entry<Settings> =
    entry(&FRAGMENT, |settings| Box::new(OddSegments(FRAGMENT, settings)));
/// The entry of `header_chain_scan` in the registry.
pub(super) const HEADER_CHAIN_SCAN: Entry<Settings> =
    entry(&CHAIN, |settings| Box::new(OddSegments(CHAIN, settings)));

const fn entry(kind: &Kind, build: fn(Settings) -> Box<dyn Rule>) -> Entry<Settings> {
    Entry {
        name: kind.name,
        bans: true,
        default: Settings::default,
        read: Settings::read,
        basics: |settings| settings.common.into(),
        build,
    }
}

/// `[rules.null_scan]` and its like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: number of such packets. One packet may have been damaged on the way.
    probes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
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

/// The differences between these rules.
struct Kind {
    name: &'static str,
    classes: &'static [ProbeClass],
    /// The name of the packets in the reason of a finding.
    words: &'static str,
}

/// nmap -sN.
const NULL: Kind = Kind {
    name: "null_scan",
    classes: &[Null],
    words: "a NULL scan (nmap -sN): no TCP stack sends segments without flags",
};
/// nmap -sF.
const FIN: Kind = Kind {
    name: "fin_scan",
    classes: &[Fin],
    words: "a FIN scan (nmap -sF): no TCP stack sends FIN without ACK",
};
/// nmap -sX.
const XMAS: Kind = Kind {
    name: "xmas_scan",
    classes: &[Xmas],
    words: "an Xmas scan (nmap -sX): no TCP stack sends FIN, PSH and URG alone",
};
/// nmap --scanflags, hping3.
const ODD: Kind = Kind {
    name: "odd_flags",
    classes: &[SynFin, SynRst, OddFlags],
    words: "no TCP stack sends such segments",
};
/// nmap -f, hping3 -f.
const FRAGMENT: Kind = Kind {
    name: "fragment_scan",
    classes: &[TinyFragment],
    words: "fragments too small for their transport header, to slip through filters (nmap -f)",
};

/// Hundreds of extension headers, or extension headers in several fragments.
const CHAIN: Kind = Kind {
    name: "header_chain_scan",
    classes: &[HeaderChain],
    words: "IPv6 extension headers that hide what is behind them from filters and sensors: no stack sends so many, or in fragments",
};

/// The rule.
struct OddSegments(Kind, Settings);

impl Rule for OddSegments {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.1.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        self.0.classes
    }

    fn soonest(&self) -> u32 {
        self.1.probes
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let Self(Kind { classes, words, .. }, settings) = self;
        let window = source.window(settings.common.window);
        let probes = window.activity.counts.of_any(classes);
        if probes < u64::from(settings.probes) {
            return None;
        }
        let (services, hosts) = (window.activity.services().value, window.activity.hosts().value);
        let reason = format!(
            "{} to {} {} of {} {} within {}: {words}",
            probes_in_words(&window.activity.counts.only(classes)),
            about(services.min(probes)),
            plural(services.min(probes), "service"),
            about(hosts.min(probes)),
            plural(hosts.min(probes), "address"),
            Interval(settings.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::rules::testing::{NOBODY, found, tcp};

    fn rules() -> [Box<dyn Rule>; 6] {
        [NULL, FIN, XMAS, ODD, FRAGMENT, CHAIN]
            .map(|kind| Box::new(OddSegments(kind, Settings::default())) as Box<dyn Rule>)
    }

    #[test]
    fn three_of_their_packets_are_found() {
        for rule in rules() {
            let (name, class) = (rule.name(), rule.classes()[0]);
            let found = found(rule, |script| {
                script.probe(1, class, 1, tcp(80)).probe(1, class, 1, tcp(80)).probe(1, class, 1, tcp(80));
            });
            assert_eq!(found, [1], "{name}");
        }
    }

    #[test]
    fn a_broken_packet_now_and_then_is_not() {
        for rule in rules() {
            let (name, class) = (rule.name(), rule.classes()[0]);
            let found = found(rule, |script| {
                for minute in 0..60 {
                    script.at(minute * 60).probe(1, class, 1, tcp(80));
                }
            });
            assert_eq!(found, NOBODY, "{name}");
        }
    }

    #[test]
    fn connections_and_strays_are_not() {
        for rule in rules() {
            let name = rule.name();
            let found = found(rule, |script| {
                for port in 1..=1000 {
                    script.syn(1, 1, port).probe(1, ProbeClass::Ack, 1, tcp(port));
                }
            });
            assert_eq!(found, NOBODY, "{name}");
        }
    }
}
