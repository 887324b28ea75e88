//! Slow scan: services or addresses, one at a time, over a day (nmap -T0, -T1, scan farms that come back).
//!
//! The slowest scan that the rule finds: the history covers at least 60 % of a window. With a threshold of 16 in 24
//! hours, the rule always finds a scan with a new target every 54 minutes, and at best one with a new target every 90
//! minutes. Where nobody knows what was met, the thresholds are higher, and so is the pace.
//!
//! Monitoring comes back to the same targets, also if they have been dead for days. A scan goes on to others.

use std::time::Duration;

use scanguard_common::outcome::ProbeClass::{
    self, IcmpAddressMask, IcmpEcho, IcmpInformation, IcmpTimestamp, Syn, Udp, UdpEmpty,
};

use super::{
    Common, about, entry::Entry, icmp_sweep, least, plural, probes_in_words, seen_before::SeenBefore,
};
use crate::{
    detect::{
        Evidence, Proof, Rule, Severity, Source, Technique, crafted,
        missed::{self, ATTEMPTS, DATAGRAMS, Missed, REQUESTS},
    },
    observe::{activity::Activity, sampled::Kind},
    settings::{Interval, Section},
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "slow_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(SlowScan(settings)),
};

/// `[rules.slow_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct closed services.
    services: u32,
    /// Threshold: distinct addresses where the service is closed, or that are dark.
    hosts: u32,
    /// Threshold: distinct addresses as above that were asked for one or two UDP services only.
    udp_hosts: u32,
    /// Threshold: distinct addresses that were pinged, or asked for more by ICMP.
    ping_hosts: u32,
    /// Threshold: distinct services on assigned ports, if this host cannot see whether they were met.
    unknown_services: u32,
    /// Threshold: distinct addresses, if this host cannot see whether a service was met there.
    unknown_hosts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            common: Common { enabled: true, window: day, severity: Severity::Medium },
            services: 16,
            hosts: 16,
            udp_hosts: 10,
            ping_hosts: 32,
            unknown_services: 100,
            unknown_hosts: 500,
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
            udp_hosts: section.number("udp_hosts", default.udp_hosts, 2..=700),
            ping_hosts: section.number("ping_hosts", default.ping_hosts, 2..=700),
            unknown_services: section.number("unknown_services", default.unknown_services, 2..=1_500),
            unknown_hosts: section.number("unknown_hosts", default.unknown_hosts, 2..=700),
        };
        least(&section, ("services", settings.services), ("unknown_services", settings.unknown_services));
        least(&section, ("hosts", settings.hosts), ("unknown_hosts", settings.unknown_hosts));
        section.finish();
        settings
    }
}

/// Least failures per success: over a day a client of many services fails on some.
const FAILURES_PER_SUCCESS: u64 = 2;

/// Least duration: the other rules find shorter scans.
const SLOW: Duration = Duration::from_secs(10 * 60);

/// Least duration of a search for addresses. By then a monitor has come back to those that it asks.
const SLOW_WIDE: Duration = Duration::from_secs(60 * 60);

/// Least duration of a search that is known only by the silence of services: by then, who asks the same dozen of hosts
/// again and again has come back to them.
const SLOW_SILENT: Duration = Duration::from_secs(20 * 60);

/// How many UDP services somebody asks for who looks for one: it may have two ports.
const FEW: u64 = 2;

/// How many addresses for each service, or services for each address, are a scan and no chance.
const ALIKE: u64 = 4;

/// Where nobody knows what was met, crafted SYNs need so many times the targets that are needed where it is known.
const CRAFTED: u64 = 2;

/// The rule.
struct SlowScan(Settings);

impl Rule for SlowScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn severity_of(&self, evidence: &Evidence) -> Severity {
        let activity = &evidence.window.activity;
        let pings = activity.counts.of_any(REQUESTS);
        let are_most = 2 * pings > activity.counts.of_any(self.classes());
        if are_most {
            icmp_sweep::severity_of(activity, self.severity().min(Severity::Low))
        } else {
            self.severity()
        }
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &[Syn, Udp, UdpEmpty, IcmpEcho, IcmpTimestamp, IcmpAddressMask, IcmpInformation]
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts).min(self.0.udp_hosts).min(self.0.ping_hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["known_bad"]
    }

    fn patience(&self) -> Duration {
        // Four times the slowest pace that the rule finds.
        self.0.common.window / self.0.services.min(self.0.hosts) * 4
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let window = source.window(self.0.common.window);
        let span = source.at.saturating_sub(window.first);
        if span < SLOW {
            return None;
        }
        let activity = &window.activity;
        let (services, hosts) = (services(activity), hosts(activity));
        let silence = source.silence(activity);
        let sure = |missed: Missed| missed.proven.saturating_sub(silence);
        let again = SeenBefore::of(source, span);
        let deep = sure(services) >= u64::from(self.0.services) && !again.services;
        let wide = span >= SLOW_WIDE && sure(hosts) >= u64::from(self.0.hosts) && !again.hosts;
        let asked = if again.hosts { 0 } else { asked_for_one_datagram_service(activity) };
        let few = asked >= u64::from(self.0.udp_hosts);
        let surely_few = asked.saturating_sub(silence) >= u64::from(self.0.udp_hosts);
        let fails = services.proven.max(hosts.proven) >= missed::successes(activity) * FAILURES_PER_SUCCESS;
        let proven = (deep || wide || surely_few) && fails;
        let likely =
            few && fails && span >= SLOW_SILENT || span >= SLOW_WIDE && self.is_likely(activity, again);
        if !proven && !likely {
            let pinged = missed::hosts(activity, REQUESTS, &[Kind::Icmp]).possible;
            if again.hosts || pinged < u64::from(self.0.ping_hosts) {
                return None;
            }
            let reason = format!(
                "{} to {} addresses within {}",
                probes_in_words(&activity.counts.only(REQUESTS)),
                about(pinged),
                Interval(self.0.common.window),
            );
            return Some(Evidence { window, reason, certain: false, proof: Proof::None });
        }
        let count = |missed: Missed| if proven { missed.proven } else { missed.possible };
        let (services, hosts) = (count(services), count(hosts));
        let reason = format!(
            "{} to {}{} {} of {} {} within {}",
            probes_in_words(&activity.counts.only(&[Syn, Udp, UdpEmpty])),
            about(services),
            if proven { " closed" } else { "" },
            plural(services, "service"),
            about(hosts),
            plural(hosts, "address"),
            Interval(self.0.common.window),
        );
        Some(Evidence { window, reason, certain: proven, proof: Proof::None })
    }
}

impl SlowScan {
    /// Whether so much was tried that it is a scan although nobody knows what was met: many services of each address, or
    /// many addresses for each service; or fewer of them by SYNs that scanners craft.
    fn is_likely(&self, activity: &Activity, again: SeenBefore) -> bool {
        let settings = &self.0;
        let all = missed::services(activity, ATTEMPTS, Kind::SERVICES).possible;
        let assigned = missed::services(activity, ATTEMPTS, &[Kind::TcpFixed]).possible;
        let hosts = missed::hosts(activity, ATTEMPTS, Kind::SERVICES).possible;
        let deep = assigned >= u64::from(settings.unknown_services) && assigned >= hosts * ALIKE;
        let wide = hosts >= u64::from(settings.unknown_hosts) && hosts >= all * ALIKE;
        let crafted = |targets, least: u32| crafted::targets(activity, targets) >= u64::from(least) * CRAFTED;
        let (deep, wide) = (deep || crafted(all, settings.services), wide || crafted(hosts, settings.hosts));
        deep && !again.services || wide && !again.hosts
    }
}

/// How many addresses were asked for one or two UDP services and have none of them. Who looks for peers asks for many.
fn asked_for_one_datagram_service(activity: &Activity) -> u64 {
    let services = missed::services(activity, DATAGRAMS, Kind::UDP).possible;
    if services > FEW { 0 } else { missed::hosts(activity, DATAGRAMS, &[Kind::UdpFixed]).proven }
}

/// The TCP ports that count. Where most addresses were asked for a port of their own, these are only the assigned ones:
/// a peer-to-peer client asks for peers that are gone, and these chose their ports at random.
fn ports(activity: &Activity) -> &'static [Kind] {
    let services = missed::services(activity, ATTEMPTS, Kind::SERVICES).possible;
    let hosts = missed::hosts(activity, ATTEMPTS, Kind::SERVICES).possible;
    if hosts >= services * ALIKE || services >= hosts * ALIKE { Kind::SERVICES } else { &[Kind::TcpFixed] }
}

/// Services that were missed.
fn services(activity: &Activity) -> Missed {
    let attempts = missed::services(activity, ATTEMPTS, ports(activity));
    let datagrams = missed::services(activity, DATAGRAMS, &[Kind::UdpFixed]);
    Missed { proven: attempts.proven + datagrams.proven, possible: attempts.possible + datagrams.possible }
}

/// Addresses that were missed.
fn hosts(activity: &Activity) -> Missed {
    let attempts = missed::hosts(activity, ATTEMPTS, ports(activity));
    let datagrams = missed::hosts(activity, DATAGRAMS, &[Kind::UdpFixed]);
    Missed {
        proven: attempts.proven.max(datagrams.proven),
        possible: attempts.possible.max(datagrams.possible),
    }
}

#[cfg(test)]
mod tests;
