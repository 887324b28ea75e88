//! An actor makes packets itself, by raw or packet sockets, and sends them to many targets (nmap -sS and -sU, masscan,
//! zmap, hping3).
//!
//! No stack of the kernel does that, so what came of the packets does not matter. Pings are left out, and so are the
//! datagrams of traceroute.

use std::time::Duration;

use scanguard_common::{
    actor::Kind as ActorKind,
    outcome::ProbeClass::{
        self, Ack, Fin, Maimon, Null, OddFlags, SctpInit, Syn, SynAckProbe, SynFin, Udp, UdpEmpty, Xmas,
    },
};

use super::{
    super::{Common, entry::Entry, plural},
    tried::{Asked, ports, proof},
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique},
    observe::{distinct::Estimate, history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_crafted",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(Crafted(settings)),
};

/// `[rules.outbound_crafted]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct services. Either is enough.
    services: u32,
    /// Threshold: distinct addresses.
    hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::High },
            services: 20,
            hosts: 16,
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

const CLASSES: &[ProbeClass] =
    &[Syn, Udp, UdpEmpty, Fin, Null, Xmas, Ack, Maimon, SynFin, OddFlags, SynAckProbe, SctpInit];

/// Kinds of targets: the ports of services.
const KINDS: &[Kind] = &[Kind::TcpFixed, Kind::TcpDynamic, Kind::TcpCalling, Kind::UdpFixed, Kind::Other];

/// The rule.
struct Crafted(Settings);

/// Distinct services and addresses, whatever came of them, or will come.
fn targets(window: &Window) -> (Estimate, Estimate) {
    let (services, hosts) = Asked::with_datagrams(window);
    let sampled = &window.activity.sampled;
    let services = Estimate { value: sampled.share_of_services(services.value, KINDS), ..services };
    (services, Estimate { value: sampled.share_of_hosts(hosts.value, KINDS), ..hosts })
}

impl Rule for Crafted {
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
        CLASSES
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["outbound_slow"]
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let window = source.window(self.0.common.window);
        let (services, hosts) = targets(&window);
        let (services, hosts) = (services.value, hosts.value);
        let Settings { services: least_services, hosts: least_hosts, .. } = self.0;
        let is_little = services < u64::from(least_services) && hosts < u64::from(least_hosts);
        let is_concerned = source.key().kind == ActorKind::Crafter && services + hosts > 0;
        (is_concerned && is_little)
            .then(|| format!("{services} of {least_services} services, {hosts} of {least_hosts} addresses"))
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        if source.key().kind != ActorKind::Crafter {
            return None;
        }
        let length = self.0.common.window;
        let window = source.window(length);
        let (services, hosts) = targets(&window);
        if services.value < u64::from(self.0.services) && hosts.value < u64::from(self.0.hosts) {
            return None;
        }
        let hosts = Estimate { value: hosts.value.max(1), ..hosts };
        let sent = window.activity.counts.of_any(CLASSES);
        let reason = format!(
            "{sent} crafted {} to {hosts} {}, {}, within {}",
            plural(sent, "packet"),
            plural(hosts.value, "address"),
            ports(services, &source.delta.samples),
            Interval(length),
        );
        Some(Evidence { window, reason, certain: true, proof: proof(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(Crafted(Settings::default()))
    }

    #[test]
    fn packets_that_a_process_makes_itself_are_found_by_services_and_by_addresses() {
        let by_services = found(rule(), |script| {
            for port in 1..=30 {
                script.ask(CRAFTER, 1, port);
            }
        });
        assert_eq!(by_services, [CRAFTER]);
        let by_addresses = found(rule(), |script| {
            for host in 0..30 {
                script.ask(CRAFTER, host, 443);
            }
        });
        assert_eq!(by_addresses, [CRAFTER]);
        let by_datagrams = found(rule(), |script| {
            for port in 1..=30 {
                script.send(CRAFTER, 1, port);
            }
        });
        assert_eq!(by_datagrams, [CRAFTER]);
    }

    #[test]
    fn pings_traceroute_and_programs_with_ordinary_sockets_are_none() {
        let pings = found(rule(), |script| {
            for host in 0..100 {
                script.ping(CRAFTER, host);
            }
        });
        let traceroute = found(rule(), |script| {
            for hop in 0..60 {
                script.send(CRAFTER, 1, 33_434 + hop);
            }
        });
        let sockets = found(rule(), |script| {
            for host in 0..100 {
                script.ask(PROGRAM, host, 443);
            }
        });
        assert_eq!((pings, traceroute, sockets), (NOBODY.to_vec(), NOBODY.to_vec(), NOBODY.to_vec()));
    }
}
