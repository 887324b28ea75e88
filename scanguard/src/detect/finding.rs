//! A finding: one source that scans, or a campaign, and what is known of it.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{account::Sample, address::Address, numbered, oracle::Reach, outcome::ProbeClass};

use super::{
    Confidence, Evidence, Rule, Severity, Technique,
    geo::Origin,
    grounds::{Grounds, Sources},
};
use crate::{
    clock::Now,
    content::{ContentEvent, ContentStats, Proof, Said, Service, summary::Summary},
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
    /// What the source said, where the rule goes by that.
    pub content: Option<Content>,
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
    /// See [`Evidence::certain`].
    pub(super) certain: bool,
    /// From which account it is: see [`Evidence::proof`].
    pub(super) proof: Proof,
    /// See [`Self::had_connections`].
    pub(super) connected: bool,
    /// When the rule matched last, by the clock that does not jump.
    pub(super) matched: Duration,
    /// Until when whatever the source did is no ground for a ban any more, by the same clock; none: all of it is.
    pub(super) settled: Option<Duration>,
    /// When the source did something last, by the same clock.
    pub(super) active: Duration,
    /// How long it stays open without a match.
    pub(super) quiet: Duration,
    /// The number of probes at which it is told again.
    pub(super) next_update: u64,
}

/// What a source said for which it is a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// What it was, as it was told last.
    pub summary: Summary,
    /// How often it said something.
    pub(super) said: u64,
    /// How sure the rule is.
    pub(super) confidence: Confidence,
}

impl Content {
    pub(super) fn new(heard: &ContentStats, confidence: Confidence) -> Self {
        Self { summary: heard.into(), said: heard.said, confidence }
    }

    /// Takes what the source said by now, where that is more than before.
    pub(super) fn refresh(&mut self, heard: &ContentStats) {
        let summary = Summary::from(heard);
        if summary.said() >= self.summary.said() {
            self.summary = summary;
        }
    }
}

/// How easily the address of a source may be a forgery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spoofable {
    /// It is none: what is counted are connections with the source that the kernel established, so many.
    No {
        /// Connections.
        completed: u64,
    },
    /// It is none: it was said within connections with the source, so often.
    Said {
        /// Requests, hellos and queries.
        times: u64,
    },
    /// Anybody could have written any address into these packets.
    Yes,
    /// Sources sent the same probes in lockstep: decoys are likely.
    Decoys {
        /// How many sources did, this one included.
        sources: u64,
    },
}

impl Spoofable {
    /// Whether the packets may be somebody else's.
    pub const fn is_possible(&self) -> bool {
        match self {
            Self::No { .. } | Self::Said { .. } => false,
            Self::Yes | Self::Decoys { .. } => true,
        }
    }
}

impl std::fmt::Display for Spoofable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No { completed: 1 } => write!(f, "no: it is about 1 connection that was completed"),
            Self::No { completed } => {
                write!(f, "no: it is about {completed} connections that were completed")
            }
            Self::Said { times: 1 } => write!(f, "no: it was said within a connection with this source"),
            Self::Said { times } => {
                write!(f, "no: {times} times it was said within connections with this source")
            }
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
    /// Whether its rule has matched on what the source did since it was let go.
    pub fn has_grounds(&self) -> bool {
        self.settled.is_none_or(|settled| self.matched > settled)
    }

    /// The address of the source; none where all sources are forged.
    pub fn source_ip(&self) -> Option<IpAddr> {
        (self.source != Address::UNSPECIFIED).then(|| self.source.to_ip())
    }

    /// All probes.
    pub fn probes(&self) -> u64 {
        self.counts.total()
    }

    /// How much there is of it: probes, or how often the source said something.
    pub fn size(&self) -> u64 {
        self.content.as_ref().map_or_else(|| self.probes(), |content| content.said)
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

    /// Whether its source has had connections with this host within `history.horizon`.
    pub fn had_connections(&self) -> bool {
        self.connected || self.completed() > 0
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
        if self.sources.count > 0 || self.content.is_some() {
            // What a campaign did is not what one of its sources did, and probes are not what was said.
            return;
        }
        self.counts.add(&delta.activity.counts.only(&self.classes));
        self.seen.add(&delta.activity);
        self.last = now.wall;
        self.active = now.at;
        self.add_targets(&delta.samples);
    }

    /// Adds something that the source said.
    pub(super) fn add_said(&mut self, utterance: &ContentEvent, now: Now) {
        let Some(content) = self.content.as_mut().filter(|_| self.proof == utterance.proof) else {
            return;
        };
        match utterance.said {
            Said::Request(_) | Said::Hello(_) | Said::Query(_) | Said::Junk(_) => content.said += 1,
            Said::Status(_) | Said::Answer { .. } => {}
        }
        self.last = now.wall;
        self.active = now.at;
        match utterance.service {
            Service::Endpoint { ip, port, protocol } => {
                self.add_target(Target { ip, port: Some(port), protocol });
            }
            Service::Log => {}
        }
    }

    pub(super) fn add_targets(&mut self, samples: &[Sample]) {
        for target in samples.iter().filter_map(target) {
            self.add_target(target);
        }
    }

    fn add_target(&mut self, target: Target) {
        if self.targets.len() < MAX_TARGETS && !self.targets.contains(&target) {
            self.targets.push(target);
        }
    }

    /// Takes what its rule says again. Whether it is news that the source is no forgery.
    pub(super) fn confirm(&mut self, grounds: &Grounds<'_>, now: Now) -> bool {
        match grounds {
            Grounds::Probes { delta, evidence, campaign, .. } => {
                let is_news = self.rise(evidence, self.classes.clone());
                self.certain |= evidence.certain;
                if let Some(sources) = campaign {
                    self.see_campaign(sources.clone(), evidence, delta, now);
                }
                is_news
            }
            Grounds::Said { heard, proof, confidence, .. } => {
                let is_news = *proof > self.proof;
                match self.content.as_mut().filter(|_| !is_news) {
                    Some(content) => content.confidence = content.confidence.max(*confidence),
                    None => self.content = Some(Content::new(heard, *confidence)),
                }
                self.proof = self.proof.max(*proof);
                is_news
            }
        }
    }

    /// Begins anew with evidence of these classes if that is proven and the finding is not: what anybody may have done is not
    /// added to what the source did. Whether it did.
    pub(super) fn rise(&mut self, evidence: &Evidence, classes: Vec<ProbeClass>) -> bool {
        let rises = evidence.proof > self.proof;
        if rises {
            self.proof = evidence.proof;
            self.certain = evidence.certain;
            self.seen = evidence.window.activity;
            self.counts = self.seen.counts.only(&classes);
            self.classes = classes;
            self.content = None;
        }
        rises
    }

    /// From which account it is.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// Takes what its source said by now.
    pub(super) fn refresh(&mut self, heard: &ContentStats) {
        self.content.iter_mut().for_each(|content| content.refresh(heard));
    }

    /// Takes what a campaign did lately, where that is more than before.
    fn see_campaign(&mut self, sources: Sources, evidence: &Evidence, delta: &Delta, now: Now) {
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
    pub(super) fn fold(&mut self, rule: &dyn Rule, grounds: &Grounds<'_>) {
        let evidence = match grounds {
            Grounds::Probes { evidence, .. } => evidence,
            // All that was said is in the summary.
            Grounds::Said { .. } => return,
        };
        let new: Vec<_> =
            rule.classes().iter().copied().filter(|class| !self.classes.contains(class)).collect();
        self.counts.add(&evidence.window.activity.counts.only(&new));
        self.classes.extend(new);
    }

    /// Says how sure it is after what is known now; whether that is news.
    pub(super) fn judge(&mut self, lockstep: Option<u64>) -> bool {
        let (confidence, spoofable) = match (self.known_by_itself(), lockstep) {
            (Some(known), _) => known,
            // A campaign has many sources as it is; decoys complete no connections.
            (None, Some(sources)) if self.sources.count == 0 && self.completed() == 0 => {
                (Confidence::Low, Spoofable::Decoys { sources })
            }
            (None, _) => (self.certainty(), Spoofable::Yes),
        };
        let news = self.confidence != confidence;
        self.confidence = confidence;
        self.spoofable = spoofable;
        news
    }

    /// How sure it is by now, and how easily the address may be a forgery.
    pub fn known(&self) -> (Confidence, Spoofable) {
        self.known_by_itself().unwrap_or((self.confidence, self.spoofable))
    }

    /// The same as far as it does not depend on what others do.
    fn known_by_itself(&self) -> Option<(Confidence, Spoofable)> {
        match (self.proof, &self.content) {
            (Proof::Connection, Some(content)) => {
                Some((content.confidence, Spoofable::Said { times: content.said }))
            }
            (Proof::None, Some(content)) => {
                Some((content.confidence.min(Confidence::Medium), Spoofable::Yes))
            }
            (Proof::Connection, None) => {
                let confidence = if self.certain { Confidence::High } else { Confidence::Medium };
                Some((confidence, Spoofable::No { completed: self.completed() }))
            }
            (Proof::None, None) => None,
        }
    }

    fn certainty(&self) -> Confidence {
        if self.certain { Confidence::Medium } else { Confidence::Low }
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

numbered! {
    /// What is told of a finding.
    EventKind {
        /// It is new.
        Opened = "opened",
        /// It goes on: ten times the probes since it was told last, or more is known of it.
        Updated = "updated",
        /// It is over, or the agent ends.
        Closed = "closed",
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
