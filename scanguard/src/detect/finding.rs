//! A finding: one source that scans, or a campaign, with everything known about it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use scanguard_common::{account::Sample, address::Address, numbered, oracle::Reach, outcome::ProbeClass};

use super::{
    Confidence, Evidence, Rule, Severity, Technique,
    geo::Origin,
    grounds::{Grounds, Sources},
    places::{Place, Worth},
};
use crate::{
    clock::Now,
    content::{ContentEvent, ContentStats, Proof, Said, Service, summary::Summary},
    observe::{
        Delta,
        activity::{Activity, Counts, Crafted},
        distinct::Estimate,
    },
    outbound::Actor,
};

/// Maximum number of targets that a finding names.
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

numbered! {
    /// Which way the probes of a finding go.
    Direction {
        /// Somebody asks this host, or hosts behind it.
        Inbound = "inbound",
        /// Somebody on this host, or behind it, asks others.
        Outbound = "outbound",
    }
}

/// A source that scans according to one rule. The finding lasts until the source has been quiet.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Unique on this host.
    pub id: String,
    /// The rule's name. A more specific rule for the same scan may take the finding over.
    pub rule: &'static str,
    /// The technique of ATT&CK.
    pub techniques: &'static [Technique],
    /// The severity.
    pub severity: Severity,
    /// The confidence.
    pub confidence: Confidence,
    /// Whether the source's address may be forged, and how easily.
    pub spoofable: Spoofable,
    /// The source. An IPv6 source stands for its prefix. For a campaign, the most active source when it was found.
    /// Of an outbound finding it is the actor's name in the kernel's tables, and no address.
    pub source: Address,
    /// Who asks others, if the finding is about what leaves this host.
    pub actor: Option<Arc<Actor>>,
    /// The length of the prefix, if the source is a prefix around many sources as they are counted.
    pub bits: Option<u8>,
    /// Its country and autonomous system, as far as they were known when the finding opened.
    pub origin: Origin,
    /// All sources of a campaign or of a prefix; none if a source scans alone.
    pub sources: Sources,
    /// Samples of the probed targets.
    pub targets: Vec<Target>,
    /// Probes by class, for the classes that the rule counts.
    pub counts: Counts,
    /// The content that the source sent, if the rule looks at content.
    pub content: Option<Content>,
    /// The tools whose SYNs most of its SYNs look like.
    pub tools: Vec<Arc<str>>,
    /// Time of the first probe, as far back as the rule looked.
    pub first: Timestamp,
    /// Time of the last probe.
    pub last: Timestamp,
    /// The reason, in one sentence.
    pub reason: String,
    /// The whole activity of the source since the start of the rule's window.
    pub(super) seen: Activity,
    /// The classes that are counted: those of the rule, and those of covered rules that matched too.
    pub(super) classes: Vec<ProbeClass>,
    pub(super) covers: &'static [&'static str],
    /// See [`Evidence::certain`].
    pub(super) certain: bool,
    /// The proof of the evidence: see [`Evidence::proof`].
    pub(super) proof: Proof,
    /// Its place; none: it has no room, or needs no place because it has no source.
    pub(super) place: Option<Place>,
    /// See [`Self::had_connections`].
    pub(super) connected: bool,
    /// When the rule last matched, by the monotonic clock.
    pub(super) matched: Duration,
    /// Activity up to this time no longer justifies a ban, by the same clock; none: all activity counts.
    pub(super) settled: Option<Duration>,
    /// When the source was last active, by the same clock.
    pub(super) active: Duration,
    /// How long the finding stays open without a match.
    pub(super) quiet: Duration,
    /// The number of probes at which the finding is reported again.
    pub(super) next_update: u64,
}

/// The content that made a source a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The summary that was reported last.
    pub summary: Summary,
    /// How often the source sent content.
    pub(super) said: u64,
    /// The confidence of the rule.
    pub(super) confidence: Confidence,
}

impl Content {
    pub(super) fn new(stats: &ContentStats, confidence: Confidence) -> Self {
        Self { summary: stats.into(), said: stats.said, confidence }
    }

    /// Takes the current content of the source, if it is more than before.
    pub(super) fn refresh(&mut self, stats: &ContentStats) {
        let summary = Summary::from(stats);
        if summary.said() >= self.summary.said() {
            self.summary = summary;
        }
    }
}

/// Whether the address of a source may be forged, and how easily.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spoofable {
    /// It is not forged: the rule counts connections with the source that the kernel established.
    No {
        /// Number of connections.
        completed: u64,
    },
    /// It is not forged: the content arrived within connections with the source.
    Said {
        /// Number of requests, hellos and queries.
        times: u64,
    },
    /// It is not forged: the kernel of this host saw the process do it.
    Seen,
    /// Anybody can have written this address into the packets.
    Yes,
    /// Sources sent the same probes in lockstep: decoys are likely.
    Decoys {
        /// Number of sources, this one included.
        sources: u64,
    },
}

impl Spoofable {
    /// Whether the packets may come from somebody else.
    pub const fn is_possible(&self) -> bool {
        match self {
            Self::No { .. } | Self::Said { .. } | Self::Seen => false,
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
            Self::Seen => write!(f, "no: this host's kernel saw the process do it"),
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
    /// What it is worth while it is open.
    pub(super) fn worth(&self) -> Worth {
        Worth {
            proof: self.proof,
            severity: self.severity,
            confidence: self.known().0,
            active: self.active,
            size: self.size(),
        }
    }

    /// Whether its rule has matched on activity after the source was released.
    pub fn has_grounds(&self) -> bool {
        self.settled.is_none_or(|settled| self.matched > settled)
    }

    /// Which way the probes go.
    pub fn direction(&self) -> Direction {
        if self.actor.is_some() { Direction::Outbound } else { Direction::Inbound }
    }

    /// The address of the source; none if all sources are forged, or if it is a process of this host.
    pub fn source_ip(&self) -> Option<IpAddr> {
        if let Some(actor) = &self.actor {
            return actor.address;
        }
        (self.source != Address::UNSPECIFIED).then(|| self.source.to_ip())
    }

    /// Number of all probes.
    pub fn probes(&self) -> u64 {
        self.counts.total()
    }

    /// The size of the finding: the number of probes, or how often the source sent content.
    pub fn size(&self) -> u64 {
        self.content.as_ref().map_or_else(|| self.probes(), |content| content.said)
    }

    /// Distinct services: ports by protocol, and probed IP protocols. Services that were met are counted if they
    /// are more than those that were not.
    pub fn services(&self) -> Estimate {
        larger(self.seen.services(), self.seen.open_services()).at_most(self.probes())
    }

    /// Distinct addresses, counted in the same way.
    pub fn hosts(&self) -> Estimate {
        larger(self.seen.hosts(), self.seen.open_hosts()).at_most(self.probes())
    }

    /// Probes of the source, of any class, with this reach.
    pub fn reached(&self, reach: Reach) -> u64 {
        self.seen.reached(reach)
    }

    /// Whether its source had connections with this host within `history.horizon`.
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

    /// SYNs that look like those of listed tools.
    pub fn crafted(&self) -> Crafted {
        self.seen.crafted()
    }

    /// Adds activity of the source.
    pub(super) fn add(&mut self, delta: &Delta, now: Now) {
        if self.sources.count > 0 || self.content.is_some() {
            // The activity of one source is not that of its campaign, and probes are not content.
            return;
        }
        self.counts.add(&delta.activity.counts.only(&self.classes));
        self.seen.add(&delta.activity);
        self.last = now.wall;
        self.active = now.at;
        self.add_targets(&delta.samples);
    }

    /// Adds content that the source sent.
    pub(super) fn add_said(&mut self, utterance: &ContentEvent, now: Now) {
        let Some(content) = self.content.as_mut().filter(|_| self.proof == utterance.proof) else {
            return;
        };
        match utterance.said {
            Said::Request(_) | Said::Hello(_) | Said::Query(_) | Said::Greeting(_) | Said::Junk(_) => {
                content.said += 1;
            }
            Said::Status(_) | Said::Answer(_) => {}
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

    /// Takes a new match of its rule. Returns whether it is more certain than before: the source is only now known not to
    /// be forged, or the rule is only now sure.
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
            Grounds::Said { stats, proof, confidence, .. } => {
                let is_proven = *proof > self.proof;
                self.proof = self.proof.max(*proof);
                match self.content.as_mut().filter(|_| !is_proven) {
                    Some(content) => {
                        let is_surer = *confidence > content.confidence;
                        content.confidence = content.confidence.max(*confidence);
                        is_surer
                    }
                    None => {
                        self.content = Some(Content::new(stats, *confidence));
                        is_proven
                    }
                }
            }
        }
    }

    /// Starts again with evidence of these classes if the evidence is proven and the finding is not: activity that
    /// anybody can have forged is not added to proven activity. Returns whether it started again.
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

    /// The proof of its evidence.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// Takes the current content of its source.
    pub(super) fn refresh(&mut self, stats: &ContentStats) {
        self.content.iter_mut().for_each(|content| content.refresh(stats));
    }

    /// Takes the recent activity of a campaign, if it is more than before.
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

    /// Also counts the classes of a rule that this finding's rule covers.
    pub(super) fn fold(&mut self, rule: &dyn Rule, grounds: &Grounds<'_>) {
        let evidence = match grounds {
            Grounds::Probes { evidence, .. } => evidence,
            // The summary contains all content.
            Grounds::Said { .. } => return,
        };
        let new: Vec<_> =
            rule.classes().iter().copied().filter(|class| !self.classes.contains(class)).collect();
        self.counts.add(&evidence.window.activity.counts.only(&new));
        self.classes.extend(new);
    }

    /// Updates the confidence by current knowledge. Returns whether it changed.
    pub(super) fn judge(&mut self, lockstep: Option<u64>) -> bool {
        let (confidence, spoofable) = match (self.known_by_itself(), lockstep) {
            (Some(known), _) => known,
            // A campaign has many sources in any case, and decoys complete no connections.
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

    /// The current confidence, and whether the address may be forged.
    pub fn known(&self) -> (Confidence, Spoofable) {
        self.known_by_itself().unwrap_or((self.confidence, self.spoofable))
    }

    /// The same, without the part that depends on other sources.
    fn known_by_itself(&self) -> Option<(Confidence, Spoofable)> {
        if self.actor.is_some() && self.proof == Proof::Connection {
            let confidence = if self.certain { Confidence::High } else { Confidence::Medium };
            return Some((confidence, Spoofable::Seen));
        }
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
    /// The kind of an event of a finding.
    EventKind {
        /// The finding is new.
        Opened = "opened",
        /// The finding grew: it has ten times the probes of the last report, or more is known about it.
        Updated = "updated",
        /// The finding is over, or the agent ends.
        Closed = "closed",
    }
}

/// An event of a finding, to be reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// The kind of event.
    pub kind: EventKind,
    /// The finding at that time.
    pub finding: Finding,
}
