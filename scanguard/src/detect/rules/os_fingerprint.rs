//! OS fingerprinting: the combination of probes, within a minute, by which nmap -O identifies systems.
//!
//! nmap sends six SYNs, two pings, a SYN with ECN, NULL (T2), SYN+FIN+URG+PSH (T3) and ACK (T4) to an open port, SYN
//! (T5), ACK (T6) and FIN+PSH+URG (T7) to a closed one, and UDP to a closed one (U1). Without an open port T2 and T3
//! are missing. The odd probes are few, each is of another kind, and ordinary probes come with them.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, Ack, IcmpEcho, Null, SynFin, Udp, UdpEmpty, Xmas};

use super::{Common, entry::Entry, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "os_fingerprint",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(OsFingerprint(settings)),
};

/// `[rules.os_fingerprint]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Most odd segments per address: with more, it is a scan with odd segments and no fingerprinting.
    most_per_host: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            most_per_host: 60,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            most_per_host: section.number("most_per_host", default.most_per_host, 3..=1_000_000),
        };
        section.finish();
        settings
    }
}

/// The odd classes; nmap sends each of them to one port.
const ODD: &[ProbeClass] = &[Null, SynFin, Xmas];
/// The classes that the rule counts.
const CLASSES: &[ProbeClass] = &[Null, SynFin, Xmas, Ack, IcmpEcho, Udp, UdpEmpty];

/// The rule.
struct OsFingerprint(Settings);

impl Rule for OsFingerprint {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning, Technique::GatherHostInformation]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        CLASSES
    }

    fn soonest(&self) -> u32 {
        3
    }

    fn covers(&self) -> &'static [&'static str] {
        &["null_scan", "xmas_scan", "odd_flags", "icmp_probe", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let counts = &window.activity.counts;
        let kinds = |classes: &[ProbeClass]| classes.iter().filter(|class| counts.of(**class) > 0).count();
        let companions =
            usize::from(counts.of(IcmpEcho) >= 2) + kinds(&[Ack]) + usize::from(kinds(&[Udp, UdpEmpty]) > 0);
        let complete = match kinds(ODD) {
            3 => true,
            2 => companions >= 1,
            1 => counts.of(Xmas) > 0 && companions == 3,
            _ => false,
        };
        let hosts = window.activity.hosts().value.max(1);
        if !complete || counts.of_any(ODD) > hosts * u64::from(self.0.most_per_host) {
            return None;
        }
        let reason = format!(
            "{} within {}: the combination by which nmap -O tells systems apart",
            probes_in_words(&counts.only(CLASSES)),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{oracle::Reach, outcome::Service};

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, tcp, udp};

    fn rule() -> Box<dyn Rule> {
        Box::new(OsFingerprint(Settings::default()))
    }

    fn pings(script: &mut Script) {
        for _ in 0..2 {
            script.probe_met(1, IcmpEcho, 1, Service { protocol: 1, port: 0 }, Reach::Unknown);
        }
    }

    #[test]
    fn the_combination_is_found_with_and_without_an_open_port() {
        let with_open = found(rule(), |script| {
            pings(script);
            script.probe(1, Null, 1, tcp(22)).probe(1, SynFin, 1, tcp(22)).probe(1, Xmas, 1, tcp(1));
        });
        assert_eq!(with_open, [1]);
        let without = found(rule(), |script| {
            pings(script);
            script.probe(1, Ack, 1, tcp(1)).probe(1, Xmas, 1, tcp(1)).probe(1, Udp, 1, udp(40_000));
        });
        assert_eq!(without, [1]);
    }

    #[test]
    fn a_scan_by_one_kind_and_ordinary_traffic_are_not() {
        let xmas = found(rule(), |script| {
            pings(script);
            for port in 1..=100 {
                script.probe(1, Xmas, 1, tcp(port));
            }
        });
        assert_eq!(xmas, NOBODY);
        let ordinary = found(rule(), |script| {
            pings(script);
            script.probe(1, Ack, 1, tcp(1)).probe(1, Udp, 1, udp(40_000)).syn(1, 1, 80);
        });
        assert_eq!(ordinary, NOBODY);
    }
}
