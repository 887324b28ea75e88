//! Distributed scans: many sources, each with a few probes, that share the work. Seen from the target's side.
//!
//! Background noise also comes from many sources, but they are not of one mind: each tries one or two services, and most try
//! the same ones. Those who share work divide it: what each tries is many, and disjoint from what the others
//! try. So an item counts for its source only as long as no other source has tried it too, and a source counts
//! only with several such items. Where the work is spread over very many sources, one item for each must do; then
//! it takes far more of them than background noise brings about.
//!
//! A board keeps what was tried of one target: services of an address, or addresses where one service was tried.

mod board;
mod settings;

use std::{collections::HashMap, time::Duration};

use scanguard_common::{
    address::Address,
    outcome::{DYNAMIC_START, ProbeClass},
    wire::protocol,
};

use self::board::Board;
pub use self::settings::Settings;
use super::{
    Evidence, Proof, Rule, Severity, Technique,
    findings::{Sources, Tracker},
};
use crate::{
    clock::Now,
    detect::findings::{Event, Grounds, Match},
    observe::{Delta, history::Window},
    settings::Interval,
};

/// Boards that are kept at most; the one that was quiet longest gives way.
const MAX_BOARDS: usize = 256;

/// What sources share the work on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Target {
    /// An address, of which they try services.
    Host(Address),
    /// A service, which they try on many addresses.
    Service(u8, u16),
}

/// One of the things that sources divide among them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Item {
    Service(u8, u16),
    Host(Address),
}

/// Finds campaigns. Bounded.
pub struct Campaigns {
    rule: DistributedScan,
    boards: HashMap<Target, Board>,
    given_up: u64,
}

impl Campaigns {
    /// None yet.
    pub(super) fn new(settings: Settings) -> Self {
        Self { rule: DistributedScan(settings), boards: HashMap::new(), given_up: 0 }
    }

    /// With other settings; what was seen so far stays.
    pub(super) fn adopt(mut self, before: Option<Self>) -> Self {
        if let Some(Self { boards, given_up, .. }) = before {
            (self.boards, self.given_up) = (boards, given_up);
        }
        self
    }

    /// The name of its findings.
    pub(super) fn name(&self) -> &'static str {
        self.rule.name()
    }

    /// Boards that were given up because there were too many.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Takes what a source did.
    pub(super) fn note(&mut self, address: Address, delta: &Delta, at: Duration) {
        let activity = &delta.activity;
        let missed = super::missed::probes(activity, CLASSES);
        // The examples do not say what they met: those of a client that meets most are not taken.
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
            self.board(Target::Host(host), at).add(address, Item::Service(service.0, service.1), delta, at);
            self.board(Target::Service(service.0, service.1), at).add(address, Item::Host(host), delta, at);
        }
    }

    fn board(&mut self, target: Target, at: Duration) -> &mut Board {
        if self.boards.len() >= MAX_BOARDS && !self.boards.contains_key(&target) {
            let quietest = self.boards.iter().min_by_key(|(target, board)| (board.last(), **target));
            if let Some(quietest) = quietest.map(|(target, _)| *target) {
                self.boards.remove(&quietest);
                self.given_up += 1;
            }
        }
        self.boards.entry(target).or_insert_with(|| Board::new(at))
    }

    /// Looks at what is new; hands on what is to be told.
    pub(super) fn tick(&mut self, tracker: &mut Tracker, now: Now, tell: &mut dyn FnMut(Event)) {
        let settings = self.rule.0;
        let window = settings.common.window;
        self.boards.retain(|_, board| {
            board.expire(now.at, window);
            !board.is_empty()
        });
        let mut found: Vec<_> = self
            .boards
            .iter_mut()
            .filter_map(|(target, board)| {
                let work = board.take_changed().then(|| board.shared_work(&settings)).flatten()?;
                Some((*target, work))
            })
            .collect();
        found.sort_by_key(|(target, _)| *target);
        for (target, work) in found {
            let reason = format!(
                "{} sources share the work: {} {} of {}, none of which two of them tried, within {}",
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
                window: Window { activity: work.activity, first: work.first },
                reason,
                certain: work.certain,
                proof: Proof::None,
            };
            let anchor = self.boards.get_mut(&target).and_then(|board| board.anchor(&work.sources.examples));
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
                tracker.see(&self.rule, Match { address, grounds, severity, now }, tell);
            }
        }
    }
}

/// What a campaign did, by those who share the work.
struct Work {
    sources: Sources,
    items: u64,
    activity: crate::observe::activity::Activity,
    first: Duration,
    certain: bool,
    /// Examples of targets.
    delta: Delta,
}

/// What is looked at.
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

/// The rule by whose name findings are told. It looks at boards, not at single sources.
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
