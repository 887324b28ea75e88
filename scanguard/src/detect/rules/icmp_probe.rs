//! ICMP probe: requests that no honest software sends any more: timestamp, address mask, information (nmap -PP, -PM,
//! xprobe2). RFC 6918 made the last two obsolete; a host that asks for another's clock by ICMP is nearly always
//! fingerprinting or looking for a way around a filter of echo requests.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, entry::Entry, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "icmp_probe",
    // A few requests are mere curiosity.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(IcmpProbe(settings)),
};

/// `[rules.icmp_probe]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: such requests.
    probes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Info },
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

const OBSOLETE: &[ProbeClass] =
    &[ProbeClass::IcmpTimestamp, ProbeClass::IcmpAddressMask, ProbeClass::IcmpInformation];

/// Least requests per address: a source that asks many addresses once each has begun a sweep.
const PER_HOST: u64 = 2;

/// The rule.
struct IcmpProbe(Settings);

impl Rule for IcmpProbe {
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
        OBSOLETE
    }

    fn soonest(&self) -> u32 {
        self.0.probes
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let probes = window.activity.counts.of_any(OBSOLETE);
        if probes < u64::from(self.0.probes) || probes < window.activity.hosts().value * PER_HOST {
            return None;
        }
        let reason = format!(
            "{} within {}: requests that hosts have no use for",
            probes_in_words(&window.activity.counts.only(OBSOLETE)),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{oracle::Reach, outcome::Service};

    use super::*;
    use crate::detect::rules::testing::{NOBODY, found};

    const ICMP: Service = Service { protocol: 1, port: 0 };

    fn rule() -> Box<dyn Rule> {
        Box::new(IcmpProbe(Settings::default()))
    }

    #[test]
    fn obsolete_requests_to_one_host_are_found() {
        for class in OBSOLETE {
            let found = found(rule(), |script| {
                for _ in 0..4 {
                    script.probe_met(1, *class, 1, ICMP, Reach::Unknown);
                }
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn pings_and_a_single_request_are_not() {
        let found = found(rule(), |script| {
            script.probe_met(1, ProbeClass::IcmpTimestamp, 1, ICMP, Reach::Unknown);
            for second in 0..600 {
                script.at(second).probe_met(1, ProbeClass::IcmpEcho, 1, ICMP, Reach::Unknown);
            }
        });
        assert_eq!(found, NOBODY);
    }
}
