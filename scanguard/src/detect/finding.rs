//! A finding: one source that scans, or a campaign, and what is known of it.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{account::Sample, address::Address, oracle::Reach, outcome::ProbeClass};

use super::{Confidence, Evidence, Rule, Severity, Technique, geo::Origin};
use crate::{
    clock::Now,
    observe::{
        Delta,
        activity::{Activity, Counts},
        distinct::Estimate,
    },
};

/// Targets that a finding names at most.
pub const MAX_TARGETS: usize = 16;

/// A probed target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// Address.
    pub ip: IpAddr,
    /// Port, where the probes have one.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: u8,
}

/// A source that scans, by one rule, until it has been quiet.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Unique on this host.
    pub id: String,
    /// The rule's name. A rule that says more of the same scan may take the finding over.
    pub rule: &'static str,
    /// What of ATT&CK it is.
    pub techniques: &'static [Technique],
    /// How bad it is.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// How easily the source's address may be a forgery.
    pub spoofable: Spoofable,
    /// Who scans; an IPv6 source stands for its prefix. Of a campaign the one that did most when it was found.
    pub source: Address,
    /// Where it comes from, as far as it was known when it was found.
    pub origin: Origin,
    /// All that take part in a campaign; none where a source scans alone.
    pub sources: Sources,
    /// Examples of what was probed.
    pub targets: Vec<Target>,
    /// Probes by class, of the classes that the rule counts.
    pub counts: Counts,
    /// When the first of the probes came, as far back as the rule looked.
    pub first: Timestamp,
    /// When the last came.
    pub last: Timestamp,
    /// Why, in one sentence.
    pub reason: String,
    /// All that the source did since the start of the rule's window.
    pub(super) seen: Activity,
    /// The classes that are counted: the rule's and those of rules that it covers and that matched.
    pub(super) classes: Vec<ProbeClass>,
    pub(super) covers: &'static [&'static str],
    /// Whether its evidence is certain.
    pub(super) proven: bool,
    /// See [`Rule::is_forgeable`].
    pub(super) forgeable: bool,
    /// When the rule matched last, by the clock that does not jump.
    pub(super) matched: Duration,
    /// When the source did something last, by the same clock.
    pub(super) active: Duration,
    /// How long it stays open without a match.
    pub(super) quiet: Duration,
    /// The number of probes at which it is told again.
    pub(super) next_update: u64,
}

/// Sources that share the work.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// How many there are.
    pub count: u64,
    /// Examples, those that did most first.
    pub examples: Vec<Address>,
}

/// How easily the address of a source may be a forgery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spoofable {
    /// It is none: so many connections were completed.
    No {
        /// Connections of which a segment was seen after their handshake.
        completed: u64,
    },
    /// Anybody could have written any address into these packets.
    Yes,
    /// Sources sent the same probes in lockstep: decoys are likely.
    Decoys {
        /// How many sources did, this one included.
        sources: u64,
    },
}

impl std::fmt::Display for Spoofable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No { completed: 1 } => write!(f, "no: 1 connection completed"),
            Self::No { completed } => write!(f, "no: {completed} connections completed"),
            Self::Yes => write!(f, "yes: any address could have been written into these packets"),
            Self::Decoys { sources } => write!(
                f,
                "yes: {sources} sources sent the same probes in lockstep, as decoys do (nmap -D); most of the \
                 addresses, or all, may be forged"
            ),
        }
    }
}

impl Finding {
    /// All probes.
    pub fn probes(&self) -> u64 {
        self.counts.total()
    }

    /// Distinct services: ports by protocol, and probed IP protocols. Those that were met are counted where
    /// they are more than those that were not.
    pub fn services(&self) -> Estimate {
        larger(self.seen.services(), self.seen.open_services()).at_most(self.probes())
    }

    /// Distinct addresses, likewise.
    pub fn hosts(&self) -> Estimate {
        larger(self.seen.hosts(), self.seen.open_hosts()).at_most(self.probes())
    }

    /// Probes of the source, of any class, that met this.
    pub fn reached(&self, reach: Reach) -> u64 {
        self.seen.reached(reach)
    }

    /// Connections that the source completed.
    pub fn completed(&self) -> u64 {
        self.seen.completed()
    }

    /// Handshakes that the source aborted.
    pub fn aborted(&self) -> u64 {
        self.seen.aborted()
    }

    /// Adds what the source did.
    pub(super) fn add(&mut self, delta: &Delta, now: Now) {
        if self.sources.count > 0 {
            // What a campaign did is not what one of its sources did.
            return;
        }
        self.counts.add(&delta.activity.counts.only(&self.classes));
        self.seen.add(&delta.activity);
        self.last = now.wall;
        self.active = now.at;
        self.add_targets(&delta.samples);
    }

    pub(super) fn add_targets(&mut self, samples: &[Sample]) {
        for target in samples.iter().filter_map(target) {
            if self.targets.len() < MAX_TARGETS && !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
    }

    /// Takes what a campaign did lately, where that is more than before.
    pub(super) fn see_campaign(&mut self, sources: Sources, evidence: &Evidence, delta: &Delta, now: Now) {
        let counts = evidence.window.activity.counts.only(&self.classes);
        if counts.total() > self.counts.total() {
            self.counts = counts;
            self.seen = evidence.window.activity;
        }
        if sources.count > self.sources.count {
            self.sources = sources;
        }
        self.last = now.wall;
        self.active = now.at;
        self.add_targets(&delta.samples);
    }

    /// Counts what a rule counts that this finding's covers.
    pub(super) fn fold(&mut self, rule: &dyn Rule, evidence: &Evidence) {
        let new: Vec<_> =
            rule.classes().iter().copied().filter(|class| !self.classes.contains(class)).collect();
        self.counts.add(&evidence.window.activity.counts.only(&new));
        self.classes.extend(new);
    }

    /// Says how sure it is after what is known now; whether that is news.
    pub(super) fn judge(&mut self, lockstep: Option<u64>) -> bool {
        let (confidence, spoofable) = match (self.completed(), lockstep) {
            _ if self.sources.count > 0 => (self.certainty(), Spoofable::Yes),
            (1.., _) if self.forgeable => (self.certainty(), Spoofable::Yes),
            (completed @ 1.., _) if self.proven => (Confidence::High, Spoofable::No { completed }),
            (completed @ 1.., _) => (Confidence::Medium, Spoofable::No { completed }),
            (0, Some(sources)) => (Confidence::Low, Spoofable::Decoys { sources }),
            (0, None) => (self.certainty(), Spoofable::Yes),
        };
        let news = self.confidence != confidence;
        self.confidence = confidence;
        self.spoofable = spoofable;
        news
    }

    fn certainty(&self) -> Confidence {
        if self.proven { Confidence::Medium } else { Confidence::Low }
    }

    pub(super) fn covers(&self, rule: &str) -> bool {
        self.covers.contains(&rule)
    }

    pub(super) fn event(&self, kind: EventKind, now: Now) -> Event {
        Event { time: now.wall, kind, finding: self.clone() }
    }
}

fn larger(one: Estimate, other: Estimate) -> Estimate {
    if other.value > one.value { other } else { one }
}

fn target(sample: &Sample) -> Option<Target> {
    (sample.taken == 1).then(|| Target {
        ip: sample.host.to_ip(),
        port: (sample.port != 0).then_some(sample.port),
        protocol: sample.protocol,
    })
}

/// What is told of a finding.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventKind {
    /// It is new.
    Opened,
    /// It goes on: ten times the probes since it was told last, or more is known of it.
    Updated,
    /// It is over, or the agent ends.
    Closed,
}

impl EventKind {
    /// All, in the order of a life.
    pub const ALL: [Self; 3] = [Self::Opened, Self::Updated, Self::Closed];

    /// The name in the output and in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Closed => "closed",
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The finding as it is then.
    pub finding: Finding,
}
