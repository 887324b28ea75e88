//! An actor tries many services of few addresses (nmap -sT, nc -z), by connections or by datagrams.

use std::time::Duration;

use scanguard_common::{
    actor::Kind as ActorKind,
    outcome::ProbeClass::{self, Syn, Udp, UdpEmpty},
};

use super::{
    super::{Common, about, entry::Entry, plural},
    tried::{Tried, knows_fates, proof},
};
use crate::{
    detect::{
        Evidence, Rule, Severity, Source, Technique,
        missed::{self, DATAGRAMS},
    },
    observe::{history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_vertical",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Vertical(settings)),
};

/// `[rules.outbound_vertical]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services that failed.
    services: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::High },
            services: 40,
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

/// So many services for each address that was asked for one of them by a datagram.
const SERVICES_PER_HOST: u64 = 4;

/// The rule.
struct Vertical(Settings);

impl Vertical {
    /// Datagrams to many assigned ports of few addresses. What came of them is not known. traceroute asks for ports above.
    fn by_datagrams(&self, source: &Source<'_>, window: Window) -> Option<Evidence> {
        let activity = &window.activity;
        let services = missed::services(activity, DATAGRAMS, &[Kind::UdpFixed]).possible;
        let hosts = missed::hosts(activity, DATAGRAMS, &[Kind::UdpFixed]).possible;
        if services < u64::from(self.0.services) || services < hosts.max(1) * SERVICES_PER_HOST {
            return None;
        }
        let sent = activity.counts.of_any(DATAGRAMS);
        let reason = format!(
            "datagrams to {sent} new targets, {} {} of {} {}, within {}",
            about(services),
            plural(services, "port"),
            about(hosts.max(1)),
            plural(hosts.max(1), "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: false, proof: proof(source) })
    }
}

impl Rule for Vertical {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::VulnerabilityScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &[Syn, Udp, UdpEmpty]
    }

    fn soonest(&self) -> u32 {
        self.0.services
    }

    fn covers(&self) -> &'static [&'static str] {
        &["outbound_sequential", "outbound_slow"]
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let tried = Tried::of(&source.window(self.0.common.window));
        let wanted = [(tried.services, self.0.services, "services")];
        knows_fates(source)
            .then(|| tried.shortfall(&wanted, tried.mostly_fails_or_knocks(), tried.is_deep()))?
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        if !knows_fates(source) {
            return None;
        }
        let length = self.0.common.window;
        let window = source.window(length);
        let tried = Tried::of(&window);
        if tried.services >= u64::from(self.0.services) && tried.is_deep() && tried.mostly_fails_or_knocks() {
            return Some(tried.evidence(source, window, length));
        }
        // A host behind this one is a client like any other, of whom nobody sees the answers.
        if source.key().kind == ActorKind::Inner { None } else { self.by_datagrams(source, window) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Vertical(Settings::default()))
    }

    #[test]
    fn many_ports_of_few_addresses_are_a_scan() {
        for hosts in [1, 5] {
            let found = found(rule(), |script| {
                for (host, port) in (0..hosts).flat_map(|host| (1..=50).map(move |port| (host, port))) {
                    script.ask(PROGRAM, host, port).refused();
                }
            });
            assert_eq!(found, [PROGRAM], "{hosts}");
        }
    }

    #[test]
    fn many_assigned_ports_by_datagrams_are_one_too() {
        let ports = |first: u16| {
            found(rule(), |script| {
                for port in first..first + 60 {
                    script.send(PROGRAM, 1, port);
                }
            })
        };
        assert_eq!(ports(1), [PROGRAM]);
        assert_eq!(ports(33_434), NOBODY, "traceroute");
    }

    #[test]
    fn a_client_that_meets_its_services_and_one_with_data_channels_are_none() {
        let met = found(rule(), |script| {
            for port in 1..=100 {
                script.ask(PROGRAM, 1, port).answered();
            }
        });
        assert_eq!(met, NOBODY);
        let channels = found(rule(), |script| {
            for port in 50_000..50_100 {
                script.ask(PROGRAM, 1, port);
            }
        });
        assert_eq!(channels, NOBODY);
    }
}
