//! The rules. Each rule has one file, with everything about the rule, and one line in the registry (`PROBES` or
//! `CONTENT`).

mod block_scan;
pub(super) mod content_rule;
#[cfg(test)]
pub(crate) mod content_script;
mod dns_enumeration;
mod dns_probe;
mod entry;
#[cfg(test)]
mod false_positives;
#[cfg(test)]
mod false_positives_content;
mod half_open_scan;
mod horizontal_sweep;
mod icmp_probe;
mod icmp_sweep;
mod known_bad;
mod never_seen;
mod odd_requests;
mod odd_segments;
mod os_fingerprint;
pub mod outbound;
mod rare_protocols;
mod scanner_agent;
mod scanner_tls;
mod seen_before;
mod sensitive_paths;
mod sequential_test;
mod service_enumeration;
mod service_probe;
pub(super) mod services;
mod slow_scan;
mod stray_segments;
mod syn_ack_scan;
#[cfg(test)]
pub(crate) mod testing;
mod tls_enumeration;
mod udp_scan;
mod vertical_scan;
mod virtual_host_scan;
mod wordlist_scan;

use std::{sync::Arc, time::Duration};

use self::entry::{Basics, Configured, Registered};
pub use super::common::Common;
use super::{
    Rule,
    campaign::{self, Campaigns},
    common::least,
    flood::{self, Floods},
    missed::{self, ATTEMPTS},
    prefixes::{self, Prefixes},
};
use crate::{
    observe::{distinct::Estimate, history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// The rules that look at probes, in the order of evaluation: the most specific rules come first.
const PROBES: &[&dyn Registered] = &[
    &block_scan::RULE,
    &vertical_scan::RULE,
    &horizontal_sweep::RULE,
    &os_fingerprint::RULE,
    &odd_segments::NULL_SCAN,
    &odd_segments::FIN_SCAN,
    &odd_segments::XMAS_SCAN,
    &odd_segments::ODD_FLAGS,
    &odd_segments::FRAGMENT_SCAN,
    &odd_segments::HEADER_CHAIN_SCAN,
    &stray_segments::ACK_SCAN,
    &stray_segments::MAIMON_SCAN,
    &syn_ack_scan::RULE,
    &udp_scan::RULE,
    &rare_protocols::SCTP_SCAN,
    &rare_protocols::IP_PROTOCOL_SCAN,
    &icmp_sweep::RULE,
    &icmp_probe::RULE,
    &service_probe::RULE,
    &sequential_test::RULE,
    &half_open_scan::RULE,
    &slow_scan::RULE,
    &known_bad::RULE,
    &never_seen::RULE,
];

/// The rules that look at content, in the same order.
const CONTENT: &[&dyn Registered] = &[
    &scanner_agent::RULE,
    &sensitive_paths::RULE,
    &odd_requests::RULE,
    &wordlist_scan::RULE,
    &virtual_host_scan::RULE,
    &tls_enumeration::RULE,
    &scanner_tls::RULE,
    &dns_enumeration::RULE,
    &dns_probe::RULE,
    &service_enumeration::RULE,
];

/// `[rules.*]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The rules of [`PROBES`], in its order.
    probes: Vec<Arc<dyn Configured>>,
    /// The rules of [`CONTENT`], in its order.
    content: Vec<Arc<dyn Configured>>,
    /// The rules of [`outbound::ALL`], in its order.
    outbound: Vec<Arc<dyn Configured>>,
    /// `[rules.distributed_scan]`.
    distributed_scan: campaign::Settings,
    /// `[rules.prefix_scan]`.
    prefix_scan: prefixes::Settings,
    /// `[rules.flood]`.
    flood: flood::Settings,
    /// `[rules.backscatter]`.
    backscatter: flood::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        let all =
            |entries: &[&'static dyn Registered]| entries.iter().map(|entry| entry.by_default()).collect();
        Self {
            probes: all(PROBES),
            content: all(CONTENT),
            outbound: all(outbound::ALL),
            distributed_scan: campaign::Settings::default(),
            prefix_scan: prefixes::Settings::default(),
            flood: flood::FLOOD,
            backscatter: flood::BACKSCATTER,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        fn all(
            section: &mut Section<'_, '_>,
            entries: &[&'static dyn Registered],
        ) -> Vec<Arc<dyn Configured>> {
            entries.iter().map(|entry| entry.read(section.section(entry.name()))).collect()
        }
        let settings = Self {
            probes: all(&mut section, PROBES),
            content: all(&mut section, CONTENT),
            distributed_scan: campaign::Settings::read(section.section("distributed_scan")),
            prefix_scan: prefixes::Settings::read(section.section("prefix_scan")),
            flood: flood::Settings::read(section.section("flood"), flood::FLOOD),
            backscatter: flood::Settings::read(section.section("backscatter"), flood::BACKSCATTER),
            outbound: all(&mut section, outbound::ALL),
        };
        section.finish();
        settings
    }

    /// The rules about actors that are enabled: about what leaves this host.
    pub fn outbound(&self) -> Vec<Box<dyn Rule>> {
        self.outbound.iter().filter(|rule| rule.basics().enabled).map(|rule| rule.build()).collect()
    }

    /// All rules that are enabled, but for [`Self::outbound`].
    pub fn rules(&self) -> RuleSet {
        let enabled = |all: &[Arc<dyn Configured>]| {
            all.iter().filter(|rule| rule.basics().enabled).map(|rule| rule.build()).collect()
        };
        let (distributed, prefix) = (self.distributed_scan, self.prefix_scan);
        RuleSet {
            rules: enabled(&self.probes),
            content: enabled(&self.content),
            campaigns: distributed.common.enabled.then(|| Campaigns::new(distributed)),
            prefixes: prefix.common.enabled.then(|| Prefixes::new(prefix)),
            floods: (self.flood.common.enabled || self.backscatter.common.enabled)
                .then(|| Floods::new(self.flood, self.backscatter)),
        }
    }

    /// The windows of all rules that are enabled and have one of their own, by name.
    pub fn windows(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.probes.iter().chain(&self.outbound).filter_map(|rule| {
            let Basics { enabled, window } = rule.basics();
            window.filter(|_| enabled).map(|window| (rule.name(), window))
        })
    }
}

/// The rules that look at single sources.
fn of_sources() -> impl Iterator<Item = &'static dyn Registered> {
    PROBES.iter().chain(CONTENT).copied()
}

/// The names of the rules that look at totals. Their findings have no source.
pub fn without_source() -> impl Iterator<Item = &'static str> {
    flood::NAMES.into_iter()
}

/// The names of all rules that look at sources, whether they are enabled or not.
pub fn names() -> Vec<&'static str> {
    of_sources().map(Registered::name).chain([campaign::NAME, prefixes::NAME]).collect()
}

/// The names of the rules whose findings may ban by default; `response.rules` can change that.
pub fn that_ban() -> impl Iterator<Item = &'static str> {
    of_sources().filter(|rule| rule.bans()).map(Registered::name).chain([prefixes::NAME])
}

/// Rules that are in use.
pub struct RuleSet {
    /// The rules that look at the probes of one source.
    pub rules: Vec<Box<dyn Rule>>,
    /// The rules that look at content.
    pub content: Vec<Box<dyn Rule>>,
    /// The rule that compares sources.
    pub campaigns: Option<Campaigns>,
    /// The rule that looks at IPv6 prefixes.
    pub prefixes: Option<Prefixes>,
    /// The rules that look at totals.
    pub floods: Option<Floods>,
}

impl From<Vec<Box<dyn Rule>>> for RuleSet {
    fn from(rules: Vec<Box<dyn Rule>>) -> Self {
        Self { rules, content: Vec::new(), campaigns: None, prefixes: None, floods: None }
    }
}

/// A number of distinct things in words. Small numbers are exact for all practical purposes.
fn about(value: u64) -> Estimate {
    Estimate { value, saturated: false }
}

/// "SYN scan: 1000 syn probes to about 879 services of 1 address within 1m".
fn attempts_in_words(window: &Window, length: Duration, proven: bool) -> String {
    let activity = &window.activity;
    let (services, hosts) =
        (missed::services(activity, ATTEMPTS, Kind::TCP), missed::hosts(activity, ATTEMPTS, Kind::TCP));
    // A connect scan completes every handshake. After a SYN scan the scanner may complete others (nmap -sV).
    let kind = if activity.completed() > 0 && activity.aborted() == 0 {
        "a connect scan (nmap -sT)"
    } else {
        "a SYN scan (nmap -sS)"
    };
    format!(
        "{} to {} {} of {} {} within {}: {kind}{}",
        probes_in_words(&activity.counts.only(ATTEMPTS)),
        about(services.possible),
        plural(services.possible, "service"),
        about(hosts.possible),
        plural(hosts.possible, "address"),
        Interval(length),
        if proven { "" } else { "; this host cannot see whether the probes met services" },
    )
}

/// "1000 probes (990 syn, 10 fin)".
fn probes_in_words(counts: &crate::observe::activity::Counts) -> String {
    let by_class = counts.by_frequency();
    let all = counts.total();
    match by_class.as_slice() {
        [(class, count)] => format!("{count} {} {}", class.label(), plural(*count, "probe")),
        many => {
            let parts: Vec<_> =
                many.iter().map(|(class, count)| format!("{count} {}", class.label())).collect();
            format!("{all} probes ({})", parts.join(", "))
        }
    }
}

fn plural(count: u64, one: &str) -> String {
    match (count, one.strip_suffix("ry"), one.ends_with('s')) {
        (1, ..) => one.to_owned(),
        (_, Some(stem), _) => format!("{stem}ries"),
        (_, None, true) => format!("{one}es"),
        (_, None, false) => format!("{one}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_registry_has_each_rule_once_and_by_its_own_name() {
        let mut names = HashSet::new();
        for entry in of_sources().chain(outbound::ALL.iter().copied()) {
            let rule = entry.by_default();
            assert_eq!(entry.name(), rule.build().name());
            assert!(names.insert(entry.name()), "{} is there twice", entry.name());
        }
    }

    #[test]
    fn settings_are_equal_if_every_rule_has_the_same() {
        let read = |text: &str| crate::config::Config::parse(text).expect("a configuration").rules;
        assert_eq!(read("# nothing\n"), Settings::default());
        assert_ne!(read("[rules.block_scan]\nhosts = 7\n"), Settings::default());
    }
}
