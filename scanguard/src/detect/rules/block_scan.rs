//! Block scan: one source tries many services of many addresses (masscan -p1-1000 10.0.0.0/24, nmap of a network).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, attempts_in_words, entry::Entry};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, ATTEMPTS},
    },
    observe::sampled::Kind,
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "block_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(BlockScan(settings)),
};

/// `[rules.block_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services. Both must be reached.
    services: u32,
    /// Threshold: distinct addresses.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 10,
            hosts: 6,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
            hosts: section.number("hosts", default.hosts, 2..=700),
        };
        section.finish();
        settings
    }
}

/// Factor for both thresholds if the reach of the probes is unknown.
const UNKNOWN_TIMES: u64 = 4;
/// Probes per service and address if the reach is unknown: a block scan probes the whole block, while a peer-to-peer
/// client tries one port of each address, a few times.
const DENSITY: u64 = 4;

/// The rule.
struct BlockScan(Settings);

impl Rule for BlockScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ScanningIpBlocks, Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        self.0.services.max(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["vertical_scan", "horizontal_sweep", "half_open_scan", "sequential_test", "slow_scan", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let services = missed::services(&window.activity, ATTEMPTS, Kind::TCP);
        let hosts = missed::hosts(&window.activity, ATTEMPTS, Kind::TCP);
        let (of_services, of_hosts) = (u64::from(self.0.services), u64::from(self.0.hosts));
        let proven = services.proven >= of_services && hosts.proven >= of_hosts;
        let likely = services.possible >= of_services * UNKNOWN_TIMES
            && hosts.possible >= of_hosts * UNKNOWN_TIMES
            && missed::probes(&window.activity, ATTEMPTS) >= services.possible.max(hosts.possible) * DENSITY;
        if !proven && !likely {
            return None;
        }
        let reason = attempts_in_words(&window, self.0.common.window, proven);
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::oracle::Reach;

    use super::*;
    use crate::detect::rules::testing::{NOBODY, found, tcp};

    fn rule() -> Box<dyn Rule> {
        Box::new(BlockScan(Settings::default()))
    }

    #[test]
    fn many_services_of_many_addresses_are_a_block() {
        for reach in [Reach::Closed, Reach::Dark] {
            let found = found(rule(), |script| {
                for (host, port) in (1..=8).flat_map(|host| (1..=16).map(move |port| (host, port))) {
                    script.probe_met(1, ProbeClass::Syn, host, tcp(port), reach);
                }
            });
            assert_eq!(found, [1], "{reach:?}");
        }
    }

    #[test]
    fn a_line_is_no_block() {
        for (hosts, ports) in [(1, 200), (200, 1), (200, 4), (3, 200)] {
            let found = found(rule(), |script| {
                for (host, port) in (1..=hosts).flat_map(|host| (1..=ports).map(move |port| (host, port))) {
                    script.syn(1, host, port);
                }
            });
            assert_eq!(found, NOBODY, "{hosts} x {ports}");
        }
    }

    #[test]
    fn a_peer_to_peer_client_behind_this_host_is_none() {
        let found = found(rule(), |script| {
            for host in 1..=200 {
                for _ in 0..3 {
                    script.probe_met(1, ProbeClass::Syn, host, tcp(6_800 + u16::from(host)), Reach::Unknown);
                }
            }
        });
        assert_eq!(found, NOBODY);
    }
}
