//! Finds distributed scans: many sources share the work, and each sends a few probes. The module looks at targets.
//!
//! Background noise also comes from many sources, but these do not coordinate: each tries one or two services, and
//! most of them try the same ones. Sources that share the work divide it: each tries many items, and no other source
//! tries them. So an item counts for its source only while no other source has tried it, and a source counts only if
//! it has several such items. If the work is spread over very many sources, one item per source has to be enough.
//! Then the rule needs far more sources than background noise has.
//!
//! A record records the activity at one target: the services tried at an address, or the addresses where one service
//! was tried.

mod division;
mod settings;
mod target_record;

use std::{collections::HashMap, time::Duration};

use scanguard_common::{
    address::Address,
    outcome::{DYNAMIC_START, ProbeClass},
    wire::protocol,
};

use self::target_record::TargetRecord;
pub use self::{
    division::{Division, Shared, Thresholds},
    settings::Settings,
};
use super::{
    Evidence, Proof, Rule, Severity, Technique,
    findings::{Sources, Tracker},
    prefixes::Prefixes,
};
use crate::{
    clock::Now,
    detect::findings::{Event, Grounds, Match},
    observe::{
        Delta,
        history::{Waiting, Window},
    },
    settings::Interval,
};

/// Maximum number of records; a new one replaces the one that was quiet for longest.
const MAX_TARGETS: usize = 256;

/// The target on which sources share the work.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Target {
    /// An address: the sources try its services.
    Host(Address),
    /// A service: the sources try it on many addresses.
    Service(u8, u16),
}

/// One of the items that sources divide among themselves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Item {
    Service(u8, u16),
    Host(Address),
}

/// Finds campaigns. Bounded.
pub struct Campaigns {
    rule: DistributedScan,
    records: HashMap<Target, TargetRecord>,
    given_up: u64,
}

impl Campaigns {
    /// Starts without records.
    pub(super) fn new(settings: Settings) -> Self {
        Self { rule: DistributedScan(settings), records: HashMap::new(), given_up: 0 }
    }

    /// Changes the settings; the records stay.
    pub(super) fn adopt(mut self, before: Option<Self>) -> Self {
        if let Some(Self { records, given_up, .. }) = before {
            (self.records, self.given_up) = (records, given_up);
        }
        self
    }

    /// The rule name of its findings.
    pub(super) fn name(&self) -> &'static str {
        self.rule.name()
    }

    /// Number of records that were dropped because there were too many.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Records the activity of a source.
    pub(super) fn note(&mut self, address: Address, delta: &Delta, at: Duration) {
        let activity = &delta.activity;
        let missed = super::missed::probes(activity, CLASSES);
        // Sampled targets do not say whether they were met, so samples of a client that meets most of them are ignored.
        if missed == 0 || missed * 2 < activity.counts.of_any(CLASSES) {
            return;
        }
        for sample in delta.samples.iter().filter(|sample| sample.taken == 1) {
            let is_service = match sample.protocol {
                protocol::TCP => true,
                // Late answers, traceroute, media.
                protocol::UDP => sample.port < DYNAMIC_START,
                _ => false,
            };
            if !is_service {
                continue;
            }
            let (service, host) = ((sample.protocol, sample.port), sample.host);
            self.record(Target::Host(host), at).add(address, Item::Service(service.0, service.1), delta, at);
            self.record(Target::Service(service.0, service.1), at).add(address, Item::Host(host), delta, at);
        }
    }

    fn record(&mut self, target: Target, at: Duration) -> &mut TargetRecord {
        if self.records.len() >= MAX_TARGETS && !self.records.contains_key(&target) {
            let quietest = self.records.iter().min_by_key(|(target, record)| (record.last(), **target));
            if let Some(quietest) = quietest.map(|(target, _)| *target) {
                self.records.remove(&quietest);
                self.given_up += 1;
            }
        }
        self.records.entry(target).or_insert_with(|| TargetRecord::new(at))
    }

    /// Looks at records with new activity and passes on the matches to report.
    pub(super) fn tick(
        &mut self,
        tracker: &mut Tracker,
        prefixes: Option<&Prefixes>,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let settings = self.rule.0;
        let window = settings.common.window;
        self.records.retain(|_, record| {
            record.expire(now.at, window);
            !record.is_empty()
        });
        let mut found: Vec<_> = self
            .records
            .iter_mut()
            .filter_map(|(target, record)| {
                let work = record.take_changed().then(|| record.shared_work(&settings)).flatten()?;
                Some((*target, work))
            })
            .collect();
        found.sort_by_key(|(target, _)| *target);
        for (target, work) in found {
            // Sources of one prefix that scans are that prefix's finding.
            if prefixes.is_some_and(|prefixes| prefixes.explains(&work.sources.examples)) {
                continue;
            }
            let reason = format!(
                "{} sources share the work: {} {} of {}, each tried by only one of them, within {}",
                work.sources.count,
                work.items,
                match target {
                    Target::Host(_) => "services",
                    Target::Service(..) => "addresses",
                },
                match target {
                    Target::Host(host) => host.to_ip().to_string(),
                    Target::Service(_, port) => format!("port {port}"),
                },
                Interval(window),
            );
            let evidence = Evidence {
                window: Window { activity: work.activity, first: work.first, waiting: Waiting::NONE },
                reason,
                certain: work.certain,
                proof: Proof::None,
            };
            let anchor =
                self.records.get_mut(&target).and_then(|record| record.anchor(&work.sources.examples));
            if let Some(address) = anchor {
                let delta = work.delta;
                let (severity, lockstep) = (self.rule.severity(), None);
                let grounds = Grounds::Probes {
                    delta: &delta,
                    evidence: &evidence,
                    lockstep,
                    campaign: Some(work.sources),
                    connected: false,
                };
                tracker.see(&self.rule, Match { address, bits: None, grounds, severity, now }, tell);
            }
        }
    }
}

/// The activity of a campaign, summed over the sources that share the work.
struct Work {
    sources: Sources,
    items: u64,
    activity: crate::observe::activity::Activity,
    first: Duration,
    certain: bool,
    /// Examples of targets.
    delta: Delta,
}

/// The kinds of targets that are considered.
const CLASSES: &[ProbeClass] = &[
    ProbeClass::Syn,
    ProbeClass::Null,
    ProbeClass::Fin,
    ProbeClass::Xmas,
    ProbeClass::Ack,
    ProbeClass::Maimon,
    ProbeClass::Udp,
    ProbeClass::UdpEmpty,
];

/// The name of the rule.
pub(super) const NAME: &str = "distributed_scan";

/// The rule that gives the findings their name. It looks at records, not at single sources.
struct DistributedScan(Settings);

impl Rule for DistributedScan {
    fn name(&self) -> &'static str {
        NAME
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
}

#[cfg(test)]
mod tests;
