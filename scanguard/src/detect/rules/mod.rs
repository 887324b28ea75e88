//! The rules: one file each, and one line each in [`Settings::rules`].

mod block_scan;
mod dns_enumeration;
mod dns_probe;
mod half_open_scan;
pub(super) mod heard;
#[cfg(test)]
pub(crate) mod hearing;
mod horizontal_sweep;
mod icmp_probe;
mod icmp_sweep;
mod known_bad;
#[cfg(test)]
mod known_quiet;
#[cfg(test)]
mod known_talk;
mod never_seen;
mod odd_requests;
mod odd_segments;
mod os_fingerprint;
mod rare_protocols;
mod scanner_agent;
mod scanner_tls;
mod sensitive_paths;
mod sequential_test;
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

use std::time::Duration;

pub use super::common::Common;
use super::{
    Rule,
    campaign::{self, Campaigns},
    common::least,
    flood::{self, Floods},
    missed::{self, ATTEMPTS},
};
use crate::{
    observe::{distinct::Estimate, history::Window, sampled::Kind},
    settings::{Interval, Section},
};

/// `[rules.*]`, in the order in which they are asked: those that say more of a scan first.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[rules.block_scan]`.
    pub block_scan: block_scan::Settings,
    /// `[rules.vertical_scan]`.
    pub vertical_scan: vertical_scan::Settings,
    /// `[rules.horizontal_sweep]`.
    pub horizontal_sweep: horizontal_sweep::Settings,
    /// `[rules.os_fingerprint]`.
    pub os_fingerprint: os_fingerprint::Settings,
    /// `[rules.null_scan]`.
    pub null_scan: odd_segments::Settings,
    /// `[rules.fin_scan]`.
    pub fin_scan: odd_segments::Settings,
    /// `[rules.xmas_scan]`.
    pub xmas_scan: odd_segments::Settings,
    /// `[rules.odd_flags]`.
    pub odd_flags: odd_segments::Settings,
    /// `[rules.fragment_scan]`.
    pub fragment_scan: odd_segments::Settings,
    /// `[rules.header_chain_scan]`.
    pub header_chain_scan: odd_segments::Settings,
    /// `[rules.ack_scan]`.
    pub ack_scan: stray_segments::Settings,
    /// `[rules.maimon_scan]`.
    pub maimon_scan: stray_segments::Settings,
    /// `[rules.syn_ack_scan]`.
    pub syn_ack_scan: syn_ack_scan::Settings,
    /// `[rules.udp_scan]`.
    pub udp_scan: udp_scan::Settings,
    /// `[rules.sctp_scan]`.
    pub sctp_scan: rare_protocols::Settings,
    /// `[rules.ip_protocol_scan]`.
    pub ip_protocol_scan: rare_protocols::Settings,
    /// `[rules.icmp_sweep]`.
    pub icmp_sweep: icmp_sweep::Settings,
    /// `[rules.icmp_probe]`.
    pub icmp_probe: icmp_probe::Settings,
    /// `[rules.service_probe]`.
    pub service_probe: services::Settings,
    /// `[rules.sequential_test]`.
    pub sequential_test: sequential_test::Settings,
    /// `[rules.half_open_scan]`.
    pub half_open_scan: services::Settings,
    /// `[rules.slow_scan]`.
    pub slow_scan: slow_scan::Settings,
    /// `[rules.known_bad]`.
    pub known_bad: known_bad::Settings,
    /// `[rules.never_seen]`.
    pub never_seen: never_seen::Settings,
    /// `[rules.scanner_agent]`.
    pub scanner_agent: scanner_agent::Settings,
    /// `[rules.sensitive_paths]`.
    pub sensitive_paths: sensitive_paths::Settings,
    /// `[rules.odd_requests]`.
    pub odd_requests: odd_requests::Settings,
    /// `[rules.wordlist_scan]`.
    pub wordlist_scan: wordlist_scan::Settings,
    /// `[rules.virtual_host_scan]`.
    pub virtual_host_scan: virtual_host_scan::Settings,
    /// `[rules.tls_enumeration]`.
    pub tls_enumeration: tls_enumeration::Settings,
    /// `[rules.scanner_tls]`.
    pub scanner_tls: scanner_tls::Settings,
    /// `[rules.dns_enumeration]`.
    pub dns_enumeration: dns_enumeration::Settings,
    /// `[rules.dns_probe]`.
    pub dns_probe: dns_probe::Settings,
    /// `[rules.distributed_scan]`.
    pub distributed_scan: campaign::Settings,
    /// `[rules.flood]`.
    pub flood: flood::Settings,
    /// `[rules.backscatter]`.
    pub backscatter: flood::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            block_scan: block_scan::Settings::default(),
            vertical_scan: vertical_scan::Settings::default(),
            horizontal_sweep: horizontal_sweep::Settings::default(),
            os_fingerprint: os_fingerprint::Settings::default(),
            null_scan: odd_segments::Settings::default(),
            fin_scan: odd_segments::Settings::default(),
            xmas_scan: odd_segments::Settings::default(),
            odd_flags: odd_segments::Settings::default(),
            fragment_scan: odd_segments::Settings::default(),
            header_chain_scan: odd_segments::Settings::default(),
            ack_scan: stray_segments::Settings::default(),
            maimon_scan: stray_segments::Settings::default(),
            syn_ack_scan: syn_ack_scan::Settings::default(),
            udp_scan: udp_scan::Settings::default(),
            sctp_scan: rare_protocols::SCTP,
            ip_protocol_scan: rare_protocols::IP_PROTOCOL,
            icmp_sweep: icmp_sweep::Settings::default(),
            icmp_probe: icmp_probe::Settings::default(),
            service_probe: service_probe::SERVICE_PROBE,
            sequential_test: sequential_test::Settings::default(),
            half_open_scan: half_open_scan::HALF_OPEN_SCAN,
            slow_scan: slow_scan::Settings::default(),
            known_bad: known_bad::Settings::default(),
            never_seen: never_seen::Settings::default(),
            scanner_agent: scanner_agent::Settings::default(),
            sensitive_paths: sensitive_paths::Settings::default(),
            odd_requests: odd_requests::Settings::default(),
            wordlist_scan: wordlist_scan::Settings::default(),
            virtual_host_scan: virtual_host_scan::Settings::default(),
            tls_enumeration: tls_enumeration::Settings::default(),
            scanner_tls: scanner_tls::Settings::default(),
            dns_enumeration: dns_enumeration::Settings::default(),
            dns_probe: dns_probe::Settings::default(),
            distributed_scan: campaign::Settings::default(),
            flood: flood::FLOOD,
            backscatter: flood::BACKSCATTER,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self {
            block_scan: block_scan::Settings::read(section.section("block_scan")),
            vertical_scan: vertical_scan::Settings::read(section.section("vertical_scan")),
            horizontal_sweep: horizontal_sweep::Settings::read(section.section("horizontal_sweep")),
            os_fingerprint: os_fingerprint::Settings::read(section.section("os_fingerprint")),
            null_scan: odd_segments::Settings::read(section.section("null_scan")),
            fin_scan: odd_segments::Settings::read(section.section("fin_scan")),
            xmas_scan: odd_segments::Settings::read(section.section("xmas_scan")),
            odd_flags: odd_segments::Settings::read(section.section("odd_flags")),
            fragment_scan: odd_segments::Settings::read(section.section("fragment_scan")),
            header_chain_scan: odd_segments::Settings::read(section.section("header_chain_scan")),
            ack_scan: stray_segments::Settings::read(section.section("ack_scan")),
            maimon_scan: stray_segments::Settings::read(section.section("maimon_scan")),
            syn_ack_scan: syn_ack_scan::Settings::read(section.section("syn_ack_scan")),
            udp_scan: udp_scan::Settings::read(section.section("udp_scan")),
            sctp_scan: rare_protocols::Settings::read(section.section("sctp_scan"), rare_protocols::SCTP),
            ip_protocol_scan: rare_protocols::Settings::read(
                section.section("ip_protocol_scan"),
                rare_protocols::IP_PROTOCOL,
            ),
            icmp_sweep: icmp_sweep::Settings::read(section.section("icmp_sweep")),
            icmp_probe: icmp_probe::Settings::read(section.section("icmp_probe")),
            service_probe: services::Settings::read(
                section.section("service_probe"),
                service_probe::SERVICE_PROBE,
            ),
            sequential_test: sequential_test::Settings::read(section.section("sequential_test")),
            half_open_scan: services::Settings::read(
                section.section("half_open_scan"),
                half_open_scan::HALF_OPEN_SCAN,
            ),
            slow_scan: slow_scan::Settings::read(section.section("slow_scan")),
            known_bad: known_bad::Settings::read(section.section("known_bad")),
            never_seen: never_seen::Settings::read(section.section("never_seen")),
            scanner_agent: scanner_agent::Settings::read(section.section("scanner_agent")),
            sensitive_paths: sensitive_paths::Settings::read(section.section("sensitive_paths")),
            odd_requests: odd_requests::Settings::read(section.section("odd_requests")),
            wordlist_scan: wordlist_scan::Settings::read(section.section("wordlist_scan")),
            virtual_host_scan: virtual_host_scan::Settings::read(section.section("virtual_host_scan")),
            tls_enumeration: tls_enumeration::Settings::read(section.section("tls_enumeration")),
            scanner_tls: scanner_tls::Settings::read(section.section("scanner_tls")),
            dns_enumeration: dns_enumeration::Settings::read(section.section("dns_enumeration")),
            dns_probe: dns_probe::Settings::read(section.section("dns_probe")),
            distributed_scan: campaign::Settings::read(section.section("distributed_scan")),
            flood: flood::Settings::read(section.section("flood"), flood::FLOOD),
            backscatter: flood::Settings::read(section.section("backscatter"), flood::BACKSCATTER),
        };
        section.finish();
        settings
    }

    /// The registry: every rule with what it has in common with all.
    fn registry(&self) -> Vec<(Common, Box<dyn Rule>)> {
        vec![
            (self.block_scan.common, Box::new(block_scan::BlockScan(self.block_scan))),
            (self.vertical_scan.common, Box::new(vertical_scan::VerticalScan(self.vertical_scan))),
            (
                self.horizontal_sweep.common,
                Box::new(horizontal_sweep::HorizontalSweep(self.horizontal_sweep)),
            ),
            (self.os_fingerprint.common, Box::new(os_fingerprint::OsFingerprint(self.os_fingerprint))),
            (
                self.null_scan.common,
                Box::new(odd_segments::OddSegments(odd_segments::NULL_SCAN, self.null_scan)),
            ),
            (
                self.fin_scan.common,
                Box::new(odd_segments::OddSegments(odd_segments::FIN_SCAN, self.fin_scan)),
            ),
            (
                self.xmas_scan.common,
                Box::new(odd_segments::OddSegments(odd_segments::XMAS_SCAN, self.xmas_scan)),
            ),
            (
                self.odd_flags.common,
                Box::new(odd_segments::OddSegments(odd_segments::ODD_FLAGS, self.odd_flags)),
            ),
            (
                self.fragment_scan.common,
                Box::new(odd_segments::OddSegments(odd_segments::FRAGMENT_SCAN, self.fragment_scan)),
            ),
            (
                self.header_chain_scan.common,
                Box::new(odd_segments::OddSegments(odd_segments::HEADER_CHAIN_SCAN, self.header_chain_scan)),
            ),
            (
                self.ack_scan.common,
                Box::new(stray_segments::StraySegments(stray_segments::ACK_SCAN, self.ack_scan)),
            ),
            (
                self.maimon_scan.common,
                Box::new(stray_segments::StraySegments(stray_segments::MAIMON_SCAN, self.maimon_scan)),
            ),
            (self.syn_ack_scan.common, Box::new(syn_ack_scan::SynAckScan(self.syn_ack_scan))),
            (self.udp_scan.common, Box::new(udp_scan::UdpScan(self.udp_scan))),
            (
                self.sctp_scan.common,
                Box::new(rare_protocols::RareProtocols(rare_protocols::SCTP_SCAN, self.sctp_scan)),
            ),
            (
                self.ip_protocol_scan.common,
                Box::new(rare_protocols::RareProtocols(
                    rare_protocols::IP_PROTOCOL_SCAN,
                    self.ip_protocol_scan,
                )),
            ),
            (self.icmp_sweep.common, Box::new(icmp_sweep::IcmpSweep(self.icmp_sweep))),
            (self.icmp_probe.common, Box::new(icmp_probe::IcmpProbe(self.icmp_probe))),
            (self.service_probe.common, Box::new(service_probe::ServiceProbe(self.service_probe))),
            (self.sequential_test.common, Box::new(sequential_test::SequentialTest(self.sequential_test))),
            (self.half_open_scan.common, Box::new(half_open_scan::HalfOpenScan(self.half_open_scan))),
            (self.slow_scan.common, Box::new(slow_scan::SlowScan(self.slow_scan))),
            (self.known_bad.common, Box::new(known_bad::KnownBad(self.known_bad))),
            (self.never_seen.common, Box::new(never_seen::NeverSeen::new(self.never_seen))),
        ]
    }

    /// The registry of rules about content: those that say more of a scan first.
    fn content_registry(&self) -> Vec<(heard::Common, Box<dyn Rule>)> {
        vec![
            (self.scanner_agent.common, Box::new(scanner_agent::ScannerAgent(self.scanner_agent))),
            (self.sensitive_paths.common, Box::new(sensitive_paths::SensitivePaths(self.sensitive_paths))),
            (self.odd_requests.common, Box::new(odd_requests::OddRequests(self.odd_requests))),
            (self.wordlist_scan.common, Box::new(wordlist_scan::WordlistScan(self.wordlist_scan))),
            (
                self.virtual_host_scan.common,
                Box::new(virtual_host_scan::VirtualHostScan(self.virtual_host_scan)),
            ),
            (self.tls_enumeration.common, Box::new(tls_enumeration::TlsEnumeration(self.tls_enumeration))),
            (self.scanner_tls.common, Box::new(scanner_tls::ScannerTls(self.scanner_tls))),
            (self.dns_enumeration.common, Box::new(dns_enumeration::DnsEnumeration(self.dns_enumeration))),
            (self.dns_probe.common, Box::new(dns_probe::DnsProbe(self.dns_probe))),
        ]
    }

    /// All rules that are enabled.
    pub fn rules(&self) -> RuleSet {
        let enabled = self.registry().into_iter().filter(|(common, _)| common.enabled);
        let rules = enabled.map(|(_, rule)| rule).collect();
        let content = self.content_registry().into_iter().filter(|(common, _)| common.enabled);
        let distributed = self.distributed_scan;
        RuleSet {
            rules,
            content: content.map(|(_, rule)| rule).collect(),
            campaigns: distributed.common.enabled.then(|| Campaigns::new(distributed)),
            floods: (self.flood.common.enabled || self.backscatter.common.enabled)
                .then(|| Floods::new(self.flood, self.backscatter)),
        }
    }

    /// The windows of all rules that are enabled, by name.
    pub fn windows(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = self.registry().into_iter().filter(|(common, _)| common.enabled);
        all.map(|(common, rule)| (rule.name(), common.window))
    }
}

/// The names of the rules that look at totals, whose findings have no source.
pub fn without_source() -> impl Iterator<Item = &'static str> {
    flood::NAMES.into_iter()
}

/// The names of all rules that look at sources, whether they are enabled or not.
pub fn names() -> Vec<&'static str> {
    let settings = Settings::default();
    let single = settings.registry().into_iter().map(|(_, rule)| rule.name());
    let content = settings.content_registry().into_iter().map(|(_, rule)| rule.name());
    single.chain(content).chain([Campaigns::new(settings.distributed_scan).name()]).collect()
}

/// Rules that are in use.
pub struct RuleSet {
    /// Those that look at one source.
    pub rules: Vec<Box<dyn Rule>>,
    /// Those that go by what is said.
    pub content: Vec<Box<dyn Rule>>,
    /// The one that looks across sources.
    pub campaigns: Option<Campaigns>,
    /// The ones that look at totals.
    pub floods: Option<Floods>,
}

impl From<Vec<Box<dyn Rule>>> for RuleSet {
    fn from(rules: Vec<Box<dyn Rule>>) -> Self {
        Self { rules, content: Vec::new(), campaigns: None, floods: None }
    }
}

/// A number of distinct things: small ones are exact for all practical purposes.
fn about(value: u64) -> Estimate {
    Estimate { value, saturated: false }
}

/// "SYN scan: 1000 syn probes to about 879 services of 1 address within 1m".
fn attempts_in_words(window: &Window, length: Duration, proven: bool) -> String {
    let activity = &window.activity;
    let (services, hosts) =
        (missed::services(activity, ATTEMPTS, Kind::TCP), missed::hosts(activity, ATTEMPTS, Kind::TCP));
    // A connect scan completes every handshake; after a SYN scan others may be completed (nmap -sV).
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
        if proven { "" } else { "; whether services were met cannot be told from this host" },
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
