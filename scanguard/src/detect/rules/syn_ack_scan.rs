//! SYN+ACK scans: unsolicited answers to many closed services (nmap --scanflags SYNACK). A host answers with a RST, and
//! stateless filters let such segments in.
//!
//! Most such segments are backscatter: somebody floods a server with SYNs that carry this host's address, and the
//! server answers. It answers from one port, to the forged ports: mostly random ones, or few. So only segments from a
//! client port to a service port count ([`SynAckProbe`]), and only if nearly all are of this kind: most random ports
//! are client ports.

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            services: 10,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            services: section.number("services", default.services, 2..=1_500),
        };
        section.finish();
        settings
    }
}

/// Least ratio of segments from a client port to a service port, to all other segments. Of segments to random ports,
/// six of seven are of the other kind.
const PROBES_TIMES: u64 = 4;

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
        self.0.services
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let counts = &window.activity.counts;
        let assigned = Target::ONLY_SERVICES;
        let services = missed::services(&window.activity, self.classes(), assigned).proven;
        let is_backscatter = counts.of(SynAckProbe) < counts.of(SynAck).saturating_mul(PROBES_TIMES);
        if services < u64::from(self.0.services) || is_backscatter {
            return None;
        }
        let reason = format!(
            "{} to {} closed {} within {}: a SYN+ACK scan (nmap --scanflags SYNACK); servers answer from other ports than clients use",
            probes_in_words(&counts.only(self.classes())),
            about(services),
            plural(services, "service"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: true, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
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

    /// A sequence of random ports, as in a flood.
    fn random_ports(count: u32) -> impl Iterator<Item = u16> {
        (1..=count).map(|number| (number.wrapping_mul(0x9e37_79b9) >> 16) as u16)
    }

    /// The class that the kernel program gives to an answer from a port.
    fn answer(script: &mut Script, from: u16, to: u16) {
        let is_probe = from >= 32_768 && to < 10_000;
        script.probe(1, if is_probe { SynAckProbe } else { SynAck }, 1, tcp(to));
    }

    #[test]
    fn a_flooded_server_is_not_accused_whatever_port_it_answers_from() {
        for from in [22, 80, 443, 8_080, 25_565, 40_000, 51_820] {
            let found = found(rule(), |script| {
                for (second, to) in random_ports(3_000).enumerate() {
                    script.at(second as u64 / 100);
                    answer(script, from, to);
                }
            });
            assert_eq!(found, NOBODY, "random ports, answered from {from}");
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
