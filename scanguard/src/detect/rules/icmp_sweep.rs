//! ICMP sweep: one source checks many addresses for a host (nmap -sn -PE -PP -PM, fping, masscan --ping).
//!
//! Clients ping many addresses of a network, too: monitors, and programs that look for the nearest server. They know the
//! addresses, so nearly none of these is dark. Then the severity is `info`.

use std::time::Duration;

use scanguard_common::{oracle::Reach, outcome::ProbeClass};

use super::{Common, entry::Entry, probes_in_words};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, REQUESTS},
    },
    observe::{activity::Activity, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "icmp_sweep",
    // A ping sweep is mere curiosity, and it is easily forged.
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(IcmpSweep(settings)),
};

/// `[rules.icmp_sweep]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct addresses.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Low },
            hosts: 12,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// Monitors ping as many hosts as they have, and they know them: `severity` only if many of the addresses are nobody's.
pub(super) fn severity_of(activity: &Activity, severity: Severity) -> Severity {
    let is_known = activity.reached(Reach::Dark) * 4 < activity.counts.of_any(REQUESTS);
    if is_known { severity.min(Severity::Info) } else { severity }
}

/// The rule.
struct IcmpSweep(Settings);

impl Rule for IcmpSweep {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ScanningIpBlocks]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        severity_of(&evidence.window.activity, self.severity())
    }

    fn classes(&self) -> &'static [ProbeClass] {
        REQUESTS
    }

    fn soonest(&self) -> u32 {
        self.0.hosts
    }

    fn covers(&self) -> &'static [&'static str] {
        &["icmp_probe", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let hosts = missed::hosts(&window.activity, REQUESTS, &[Kind::Icmp]);
        if hosts.possible < u64::from(self.0.hosts) {
            return None;
        }
        let reason = format!(
            "{} to {} addresses within {}",
            probes_in_words(&window.activity.counts.only(REQUESTS)),
            super::about(hosts.possible),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::outcome::Service;

    use super::*;
    use crate::detect::{
        rules::testing::{NOBODY, Script, found},
        settings,
    };

    const ICMP: Service = Service { protocol: 1, port: 0 };

    fn rule() -> Box<dyn Rule> {
        Box::new(IcmpSweep(Settings::default()))
    }

    #[test]
    fn each_kind_of_request_to_many_addresses_is_a_sweep() {
        for class in REQUESTS {
            let found = found(rule(), |script| {
                for host in 1..=20 {
                    script.probe_met(1, *class, host, ICMP, Reach::Unknown);
                }
            });
            assert_eq!(found, [1], "{class:?}");
        }
    }

    #[test]
    fn pings_of_addresses_that_are_there_are_told_as_information_only() {
        let severity = |dark: u8| {
            let mut script = Script::new(rule(), settings::Settings::default());
            for host in 1..=20 {
                let reach = if host <= dark { Reach::Dark } else { Reach::Unknown };
                script.probe_met(1, ProbeClass::IcmpEcho, host, ICMP, reach);
            }
            script.events()[0].finding.severity
        };
        assert_eq!((severity(0), severity(2), severity(15)), (Severity::Info, Severity::Info, Severity::Low));
    }

    #[test]
    fn a_ping_a_second_to_one_host_is_not_found() {
        let found = found(rule(), |script| {
            for second in 0..600 {
                script.at(second).probe_met(1, ProbeClass::IcmpEcho, 1, ICMP, Reach::Unknown);
            }
        });
        assert_eq!(found, NOBODY);
    }
}
