//! SYN+ACK scans: unsolicited answers to many closed services or addresses (nmap --scanflags SYNACK, ZMap's
//! tcp_synackscan). A host answers with a RST, and stateless filters let such segments in.
//!
//! Most such segments are backscatter: somebody floods a server with SYNs that carry this host's address, and the
//! server answers. It answers from one port, to the forged ports: mostly random ones, or few. So only segments that go
//! where no client calls from count ([`SynAckProbe`]): to a port below 1024, or from a client port to an assigned port.
//! And nearly all must be of this kind: most random ports are client ports.
//!
//! A sweep of addresses has one port. So has a reflected flood that is aimed at a service. But a sweep asks each address
//! once.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{self, SynAck, SynAckProbe};

use super::{Common, about, entry::Entry, plural, probes_in_words};
use crate::{
    detect::{Evidence, Proof, Rule, Severity, Source, Technique, missed},
    observe::sampled::Kind as Target,
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "syn_ack_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(SynAckScan(settings)),
};

/// `[rules.syn_ack_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services, below the ephemeral ports.
    services: u32,
    /// Threshold: distinct addresses where the service is closed, or that are dark, each asked once.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 10,
            hosts: 160,
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

/// Least ratio of segments that go where no client calls from, to all other segments. Of segments to random ports, 63 of
/// 64 are of the other kind, and six of seven if they come from a client port.
const PROBES_TIMES: u64 = 4;

/// How many segments an address gets in a sweep at most, in percent: the error of the estimate. It takes 250 segments to
/// random addresses of a network of 256 to meet 160 of them.
const PERCENT_PER_HOST: u64 = 120;

/// The rule.
struct SynAckScan(Settings);

impl Rule for SynAckScan {
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
        &[SynAckProbe]
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let counts = &window.activity.counts;
        let assigned = Target::ONLY_SERVICES;
        let services = missed::services(&window.activity, self.classes(), assigned).proven;
        let hosts = missed::hosts(&window.activity, self.classes(), assigned).proven;
        let probes = counts.of(SynAckProbe);
        let is_backscatter = probes < counts.of(SynAck).saturating_mul(PROBES_TIMES);
        let walks = services >= u64::from(self.0.services);
        // A saturated bitmap stands for more addresses than it can count.
        let once = window.activity.hosts().saturated || probes * 100 <= hosts * PERCENT_PER_HOST;
        let sweeps = hosts >= u64::from(self.0.hosts) && once;
        if is_backscatter || !(walks || sweeps) {
            return None;
        }
        let reason = format!(
            "{} to {} closed {} of {} {} within {}: a SYN+ACK scan (nmap --scanflags SYNACK); servers answer to other ports",
            probes_in_words(&counts.only(self.classes())),
            about(services),
            plural(services, "service"),
            about(hosts),
            plural(hosts, "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: walks, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::oracle::Reach;

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, tcp};

    fn rule() -> Box<dyn Rule> {
        Box::new(SynAckScan(Settings::default()))
    }

    #[test]
    fn answers_that_nobody_asked_for_to_many_services_are_a_scan() {
        let found = found(rule(), |script| {
            for port in 1..=20 {
                script.probe(1, SynAckProbe, 1, tcp(port));
            }
        });
        assert_eq!(found, [1]);
    }

    /// Random ports, as in a flood: splitmix64. A simpler sequence would be spread too evenly to be random.
    fn random_ports(seed: u64, count: u64) -> impl Iterator<Item = u16> {
        (seed..seed + count).map(|number| {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 48) as u16
        })
    }

    /// The class that the oracle gives to an answer from a port.
    fn class(from: u16, to: u16) -> ProbeClass {
        let is_probe = to < 1_024 || from >= 32_768 && to < 10_000;
        if is_probe { SynAckProbe } else { SynAck }
    }

    fn answer(script: &mut Script, from: u16, to: u16) {
        script.probe(1, class(from, to), 1, tcp(to));
    }

    #[test]
    fn a_scan_from_the_port_of_a_service_is_found_by_the_ports_that_it_walks_through() {
        for from in [80, 443] {
            let found = found(rule(), |script| (1..=200).for_each(|to| answer(script, from, to)));
            assert_eq!(found, [1], "from {from}");
        }
        let upwards = found(rule(), |script| {
            for step in 0..60 {
                script.at(u64::from(step));
                answer(script, 443 + step, 1 + step);
            }
        });
        assert_eq!(upwards, [1], "hping3 -SA -s 443 -p ++1");
    }

    #[test]
    fn a_service_of_many_addresses_is_a_sweep_if_each_is_asked_once() {
        for reach in [Reach::Closed, Reach::Dark] {
            let found = found(rule(), |script| {
                for host in 0..=255 {
                    script.probe_met(1, SynAckProbe, host, tcp(80), reach);
                }
            });
            assert_eq!(found, [1], "{reach:?}");
        }
        for seed in 0..50 {
            let reflected = found(rule(), |script| {
                for (time, port) in random_ports(seed * 10_000, 3_000).enumerate() {
                    script.at(time as u64 / 20).probe(1, SynAckProbe, (port >> 8) as u8, tcp(80));
                }
            });
            assert_eq!(reflected, NOBODY, "a server that is used to flood port 80 of a network, {seed}");
        }
    }

    #[test]
    fn a_flooded_server_is_not_accused_whatever_port_it_answers_from() {
        for from in [22, 80, 443, 8_080, 25_565, 40_000, 51_820] {
            for first in [1, 1_024] {
                let flood = |script: &mut Script, network: bool| {
                    for (time, to) in random_ports(1, 3_000).filter(|to| *to >= first).enumerate() {
                        let host = if network { (time * 97 % 256) as u8 } else { 1 };
                        script.at(time as u64 / 100).probe(1, class(from, to), host, tcp(to));
                    }
                };
                for network in [false, true] {
                    let found = found(rule(), |script| flood(script, network));
                    assert_eq!(found, NOBODY, "ports from {first}, answered from {from}, {network}");
                }
            }
        }
        for from in [80, 443, 40_000] {
            let found = found(rule(), |script| {
                for time in 0..600 {
                    script.at(time / 10);
                    answer(script, from, [22, 53, 80, 123, 443, 1_024][(time % 6) as usize]);
                }
            });
            assert_eq!(found, NOBODY, "few ports, answered from {from}");
        }
    }
}
