//! An actor connects to many new addresses, or to many services of few, is answered, and says nothing (nmap -sT, nc -z, a
//! scan of hosts that are all there).
//!
//! A client asks for a service in order to say something. A balancer that begins to look after a hundred servers by bare
//! connections does the same once, so that the threshold is high, and it goes on with servers that it knows.

use std::time::Duration;

use scanguard_common::outcome::{Answer, ProbeClass};

use super::{
    super::{Common, entry::Entry},
    tried::{Asked, Knocks, knows_fates, proof},
};
use crate::{
    detect::{Evidence, Rule, Severity, Source, Technique, missed::ATTEMPTS},
    observe::activity::Activity,
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "outbound_knocks",
    bans: false,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(KnockRule(settings)),
};

/// `[rules.outbound_knocks]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every rule has.
    common: Common,
    /// Threshold: distinct addresses that answered and were told nothing. Either is enough.
    hosts: u32,
    /// Threshold: distinct services of few addresses, likewise.
    services: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common { enabled: true, window: Duration::from_secs(60), severity: Severity::Medium },
            hosts: 128,
            services: 40,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            hosts: section.number("hosts", default.hosts, 2..=700),
            services: section.number("services", default.services, 2..=1_500),
        };
        section.finish();
        settings
    }
}

/// So many services for each address, where it is services that are many.
const SERVICES_PER_HOST: u64 = 4;

/// The rule.
struct KnockRule(Settings);

impl Rule for KnockRule {
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
        ATTEMPTS
    }

    fn concerns(&self, new: &Activity) -> bool {
        new.counts.of_any(ATTEMPTS) > 0 || new.silent() > 0
    }

    fn soonest(&self) -> u32 {
        self.0.services.min(self.0.hosts)
    }

    fn covers(&self) -> &'static [&'static str] {
        &["outbound_sequential", "outbound_slow", "outbound_logins"]
    }

    fn evaluate(&self, source: &Source<'_>) -> Option<Evidence> {
        let length = self.0.common.window;
        let window = source.window(length);
        let activity = &window.activity;
        let Knocks { hosts, services, silent, .. } = Knocks::of(activity);
        let is_wide = hosts >= u64::from(self.0.hosts);
        let is_deep = services >= u64::from(self.0.services) && services >= hosts.max(1) * SERVICES_PER_HOST;
        if !knows_fates(source) || !is_wide && !is_deep {
            return None;
        }
        let reason = format!(
            "{}; {} answered, and nothing was said to {silent} of these",
            Asked::of(&window).in_words(&source.delta.samples, length),
            activity.answered(Answer::SynAck),
        );
        Some(Evidence { window, reason, certain: true, proof: proof(source) })
    }

    fn shortfall(&self, source: &Source<'_>) -> Option<String> {
        let Knocks { hosts, services, silent, .. } =
            Knocks::of(&source.window(self.0.common.window).activity);
        let Settings { hosts: least_hosts, services: least_services, .. } = self.0;
        let is_little = hosts < u64::from(least_hosts) && services < u64::from(least_services);
        (silent > 0 && is_little).then(|| {
            format!(
                "nothing was said to {hosts} of {least_hosts} addresses, {services} of {least_services} services"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn rule() -> Box<dyn Rule> {
        Box::new(KnockRule(Settings::default()))
    }

    /// Hosts and ports of each, of which all answer. In every `speaks`-th connection something is said; 0: in none.
    fn knocks(hosts: u32, last_port: u16, speaks: u32) -> Vec<scanguard_common::actor::Key> {
        found(rule(), |script| {
            let targets = (0..hosts).flat_map(|host| (1..=last_port).map(move |port| (host, port)));
            for (number, (host, port)) in (0..).zip(targets) {
                script.at(u64::from(number) / 20).ask(PROGRAM, host, port).answered();
                if speaks == 0 || number % speaks != 0 {
                    script.silent();
                }
            }
        })
    }

    #[test]
    fn a_scan_of_hosts_that_are_all_there_is_found_by_what_is_not_said() {
        assert_eq!(knocks(400, 1, 0), [PROGRAM]);
        assert_eq!(knocks(1, 100, 0), [PROGRAM]);
        assert_eq!(knocks(400, 1, 3), [PROGRAM], "a third of them is spoken to");
    }

    #[test]
    fn clients_that_speak_and_balancers_with_some_servers_are_none() {
        assert_eq!(knocks(400, 1, 1), NOBODY);
        assert_eq!(knocks(1, 100, 1), NOBODY);
        assert_eq!(knocks(90, 1, 0), NOBODY, "a balancer with ninety servers");
        assert_eq!(knocks(30, 2, 0), NOBODY);
    }
}
