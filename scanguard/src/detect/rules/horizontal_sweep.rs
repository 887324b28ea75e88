//! Horizontal sweep: one source tries few services of many addresses (masscan, zmap, worms).

use std::time::Duration;

use scanguard_common::outcome::ProbeClass;

use super::{Common, about, attempts_in_words, entry::Entry, least, plural};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique,
        missed::{self, ATTEMPTS},
    },
    observe::{history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "horizontal_sweep",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(HorizontalSweep(settings)),
};

/// `[rules.horizontal_sweep]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct addresses where the service is closed, or that are dark.
    hosts: u32,
    /// The same threshold if this host cannot see whether a service was met.
    unknown_hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            hosts: 16,
            unknown_hosts: 100,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            hosts: section.number("hosts", default.hosts, 2..=700),
            unknown_hosts: section.number("unknown_hosts", default.unknown_hosts, 2..=700),
        };
        least(&section, ("hosts", settings.hosts), ("unknown_hosts", settings.unknown_hosts));
        section.finish();
        settings
    }
}

/// Addresses per service that make a sweep if the reach is unknown. A peer-to-peer client behind this host tries a
/// different port on each address.
const HOSTS_PER_SERVICE: u64 = 4;

/// So many addresses that all answered are reported, if the source used few of their services, and aborted the handshakes or
/// said nothing.
const ANSWERED: u64 = 64;
/// The same for a source that said something: a client of a host with very many addresses may do that.
const ANSWERED_AND_USED: u64 = 150;

/// The rule.
struct HorizontalSweep(Settings);

impl HorizontalSweep {
    /// Many addresses of this host answered the source. An honest program may do that (a crawler that knows all sites of
    /// a host), so this is reported, and nobody is accused.
    fn of_answers(&self, window: Window) -> Option<Evidence> {
        let (hosts, services) =
            (window.activity.answered_hosts().value, window.activity.open_services().value);
        let unused = window.activity.aborted() + window.activity.silent();
        let least = if unused * 2 >= hosts { ANSWERED } else { ANSWERED_AND_USED };
        if hosts < least || hosts < services * HOSTS_PER_SERVICE {
            return None;
        }
        let reason = format!(
            "SYNs to {} addresses of this host, all of which answered, within {}: a sweep for {} {} that this host serves \
             at each of its addresses",
            about(hosts),
            Interval(self.0.common.window),
            about(services),
            plural(services, "service"),
        );
        Some(Evidence { window, reason, certain: false, proof: Proof::None })
    }
}

impl Rule for HorizontalSweep {
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
        let missed = missed::hosts(&evidence.window.activity, ATTEMPTS, Kind::TCP).possible;
        if missed >= u64::from(self.0.hosts) { self.severity() } else { self.severity().min(Severity::Info) }
    }

    fn classes(&self) -> &'static [ProbeClass] {
        ATTEMPTS
    }

    fn soonest(&self) -> u32 {
        self.0.hosts
    }

    fn covers(&self) -> &'static [&'static str] {
        &["half_open_scan", "sequential_test", "slow_scan", "known_bad"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let services = missed::services(&window.activity, ATTEMPTS, Kind::TCP);
        let hosts = missed::hosts(&window.activity, ATTEMPTS, Kind::TCP);
        let proven = hosts.proven >= u64::from(self.0.hosts);
        let likely = hosts.possible >= u64::from(self.0.unknown_hosts)
            && hosts.possible >= services.possible * HOSTS_PER_SERVICE;
        if !proven && !likely {
            return self.of_answers(window);
        }
        let reason = attempts_in_words(&window, self.0.common.window, proven);
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{
        oracle::Reach,
        outcome::{Answer, Service},
    };

    use super::*;
    use crate::detect::rules::testing::{NOBODY, Script, found, tcp};

    fn rule() -> Box<dyn Rule> {
        Box::new(HorizontalSweep(Settings::default()))
    }

    #[test]
    fn one_port_on_many_addresses_is_a_sweep_whether_they_are_closed_or_dark() {
        for reach in [Reach::Closed, Reach::Dark] {
            let found = found(rule(), |script| {
                for host in 1..=30 {
                    script.probe_met(1, ProbeClass::Syn, host, tcp(22), reach);
                }
            });
            assert_eq!(found, [1], "{reach:?}");
        }
    }

    #[test]
    fn of_unknown_fate_it_takes_many_addresses_of_few_services() {
        let sweep = |hosts: u8, port: fn(u8) -> u16| {
            found(rule(), |script| {
                for host in 0..hosts {
                    script.probe_met(1, ProbeClass::Syn, host, tcp(port(host)), Reach::Unknown);
                }
            })
        };
        assert_eq!(sweep(200, |_| 22), [1]);
        assert_eq!(sweep(60, |_| 443), NOBODY, "a client of many hosts behind this one");
        assert_eq!(sweep(200, |host| 6_000 + u16::from(host)), NOBODY, "a peer-to-peer client");
    }

    #[test]
    fn very_many_hosts_that_all_answer_are_told_and_no_more() {
        for (hosts, aborts, expected) in [
            (40, true, None),
            (90, true, Some(Severity::Info)),
            (110, false, None),
            (200, false, Some(Severity::Info)),
        ] {
            let mut script = Script::new(rule(), crate::detect::settings::Settings::default());
            for host in 0..hosts {
                script.probe_met(1, ProbeClass::Syn, host, tcp(22), Reach::Unknown).answer(1, Answer::SynAck);
                if aborts {
                    script.abort(1, host, 22);
                }
            }
            let severity = script.events().first().map(|event| event.finding.severity);
            assert_eq!(severity, expected, "{hosts} hosts");
        }
    }

    #[test]
    fn many_ports_of_one_address_are_not() {
        let found = found(rule(), |script| {
            for port in 1..=1000 {
                script.syn(1, 1, port);
            }
        });
        assert_eq!(found, NOBODY);
    }

    #[test]
    fn a_backup_server_that_connects_to_twelve_hosts_is_not_found() {
        for reach in [Reach::Open, Reach::Unknown, Reach::Closed] {
            let found = found(rule(), |script| {
                for second in 0..600 {
                    let host = u8::try_from(second % 12).unwrap();
                    script.at(second).probe_met(1, ProbeClass::Syn, host, tcp(22), reach);
                }
            });
            assert_eq!(found, NOBODY, "{reach:?}");
        }
    }

    #[test]
    fn pings_alone_are_not_found_here() {
        let found = found(rule(), |script| {
            for host in 1..=100 {
                script.probe(1, ProbeClass::IcmpEcho, host, Service { protocol: 1, port: 0 });
            }
            script.syn(1, 1, 80);
        });
        assert_eq!(found, NOBODY);
    }
}
