//! The life of a finding: opened, updated at 10, 100, 1,000 ... probes, closed after quiet.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{account::Sample, address::Address, oracle::Reach, outcome::ProbeClass};

use super::{Confidence, Evidence, Rule, Severity, Technique, settings::Settings, told::Told};
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
    /// Who scans; an IPv6 source stands for its prefix.
    pub source: Address,
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
    seen: Activity,
    /// The classes that are counted: the rule's and those of rules that it covers and that matched.
    classes: Vec<ProbeClass>,
    covers: &'static [&'static str],
    /// Whether its evidence is certain.
    proven: bool,
    /// When the rule matched last, by the clock that does not jump.
    matched: Duration,
    /// When the source did something last, by the same clock.
    active: Duration,
    /// How long it stays open without a match.
    quiet: Duration,
    /// The number of probes at which it is told again.
    next_update: u64,
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

    /// Adds what the source did.
    fn add(&mut self, delta: &Delta, now: Now) {
        self.counts.add(&delta.activity.counts.only(&self.classes));
        self.seen.add(&delta.activity);
        self.last = now.wall;
        self.active = now.at;
        self.add_targets(&delta.samples);
    }

    fn add_targets(&mut self, samples: &[Sample]) {
        for target in samples.iter().filter_map(target) {
            if self.targets.len() < MAX_TARGETS && !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
    }

    /// Counts what a rule counts that this finding's covers.
    fn fold(&mut self, rule: &dyn Rule, evidence: &Evidence) {
        let new: Vec<_> =
            rule.classes().iter().copied().filter(|class| !self.classes.contains(class)).collect();
        self.counts.add(&evidence.window.activity.counts.only(&new));
        self.classes.extend(new);
    }

    /// Says how sure it is after what is known now; whether that is news.
    fn judge(&mut self, lockstep: Option<u64>) -> bool {
        let (confidence, spoofable) = match (self.completed(), lockstep) {
            (completed @ 1.., _) if self.proven => (Confidence::High, Spoofable::No { completed }),
            (completed @ 1.., _) => (Confidence::Medium, Spoofable::No { completed }),
            (0, Some(sources)) => (Confidence::Low, Spoofable::Decoys { sources }),
            (0, None) if self.proven => (Confidence::Medium, Spoofable::Yes),
            (0, None) => (Confidence::Low, Spoofable::Yes),
        };
        let news = self.confidence != confidence;
        self.confidence = confidence;
        self.spoofable = spoofable;
        news
    }

    fn covers(&self, rule: &str) -> bool {
        self.covers.contains(&rule)
    }

    fn event(&self, kind: EventKind, now: Now) -> Event {
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

/// A rule that matched.
pub struct Match<'d> {
    /// The source.
    pub address: Address,
    /// What is new.
    pub delta: &'d Delta,
    /// The rule's answer.
    pub evidence: Evidence,
    /// How bad it is.
    pub severity: Severity,
    /// Sources that did the same at the same time, this one included.
    pub lockstep: Option<u64>,
    /// When.
    pub now: Now,
}

/// The open findings. Bounded: what finds no room is counted.
pub struct Tracker {
    settings: Settings,
    /// By source. Several of one source are rules of which none covers another.
    open: HashMap<Address, Vec<Finding>>,
    count: usize,
    told: Told,
    opened: u64,
    refused: u64,
    suppressed: u64,
}

impl Tracker {
    /// None open.
    pub fn new(settings: Settings) -> Self {
        let told = Told::new(settings.max_open as usize);
        Self { settings, open: HashMap::new(), count: 0, told, opened: 0, refused: 0, suppressed: 0 }
    }

    /// The open findings.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values().flatten()
    }

    /// Findings that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Times that a rule matched a finding that was already told.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Until when what a source did is part of findings of this rule, or of one that covers it, that are over.
    pub fn told(&self, rule: &str, address: &Address) -> Duration {
        self.told.until(rule, address)
    }

    /// Takes what a source did into its open findings.
    pub fn absorb(&mut self, address: &Address, delta: &Delta, now: Now) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            finding.add(delta, now);
        }
    }

    /// Takes a rule's match, after [`Self::absorb`]; hands on what is to be told, if anything.
    pub fn see(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let now = found.now;
        let of_source = self.open.entry(found.address).or_default();
        let same = of_source.iter_mut().find(|finding| finding.rule == rule.name());
        if let Some(finding) = same {
            finding.matched = now.at;
            finding.proven |= found.evidence.proven;
            finding.severity = finding.severity.max(found.severity);
            if finding.probes() < finding.next_update {
                self.suppressed += 1;
                return;
            }
            finding.reason = found.evidence.reason;
            update(finding, found.lockstep, now, tell);
        } else if let Some(finding) = of_source.iter_mut().find(|finding| finding.covers(rule.name())) {
            finding.matched = now.at;
            finding.fold(rule, &found.evidence);
            self.suppressed += 1;
            if finding.probes() >= finding.next_update {
                update(finding, found.lockstep, now, tell);
            }
        } else if let Some(place) = of_source.iter().position(|open| rule.covers().contains(&open.rule)) {
            let mut finding = of_source.remove(place);
            // What else it covers is part of it from now on.
            let parts = of_source.extract_if(.., |open| rule.covers().contains(&open.rule));
            for mut part in parts {
                self.count -= 1;
                part.reason = format!("{}; goes on as part of {}", part.reason, finding.id);
                tell(part.event(EventKind::Closed, now));
            }
            finding.fold(rule, &found.evidence);
            let quiet = self.settings.quiet;
            take_over(&mut finding, rule, &found, quiet);
            finding.reason = found.evidence.reason;
            update(&mut finding, found.lockstep, now, tell);
            of_source.push(finding);
        } else {
            self.open_new(rule, found, tell);
        }
    }

    fn open_new(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let Match { address, delta, now, .. } = found;
        if self.count >= self.settings.max_open as usize {
            self.refused += 1;
            if self.open.get(&address).is_some_and(Vec::is_empty) {
                self.open.remove(&address);
            }
            return;
        }
        let window = found.evidence.window;
        let mut finding = Finding {
            id: format!("{:x}-{:x}", now.wall.as_millisecond(), self.opened),
            rule: rule.name(),
            techniques: rule.techniques(),
            severity: found.severity,
            confidence: Confidence::Low,
            spoofable: Spoofable::Yes,
            source: address,
            targets: Vec::new(),
            counts: window.activity.counts.only(rule.classes()),
            seen: window.activity,
            classes: rule.classes().to_vec(),
            covers: rule.covers(),
            first: now.wall_of(window.first),
            last: now.wall,
            reason: String::new(),
            proven: found.evidence.proven,
            matched: now.at,
            active: now.at,
            quiet: self.settings.quiet.max(rule.patience()),
            next_update: 0,
        };
        finding.reason = found.evidence.reason;
        self.opened += 1;
        self.count += 1;
        finding.add_targets(&delta.samples);
        finding.next_update = next_update(finding.probes());
        finding.judge(found.lockstep);
        tell(finding.event(EventKind::Opened, now));
        self.open.entry(address).or_default().push(finding);
    }

    /// Sources turn out to send in lockstep: their findings are told again where that changes them.
    pub fn doubt(&mut self, address: &Address, sources: u64, now: Now, tell: &mut dyn FnMut(Event)) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            if finding.judge(Some(sources)) {
                tell(finding.event(EventKind::Updated, now));
            }
        }
    }

    /// Closes what has been quiet.
    pub fn close_quiet(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.close(now, tell, |finding| now.at.saturating_sub(finding.matched) >= finding.quiet);
    }

    /// When the next finding is over, if its rule does not match again.
    pub fn next_close(&self) -> Option<Duration> {
        self.open().map(|finding| finding.matched.saturating_add(finding.quiet)).min()
    }

    /// Closes everything.
    pub fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.close(now, tell, |_| true);
    }

    fn close(&mut self, now: Now, tell: &mut dyn FnMut(Event), over: impl Fn(&Finding) -> bool) {
        let mut closed = Vec::new();
        self.open.retain(|_, findings| {
            closed.extend(findings.extract_if(.., |finding| over(finding)));
            !findings.is_empty()
        });
        self.count -= closed.len();
        closed.sort_by(|a, b| a.id.cmp(&b.id));
        for finding in closed {
            self.told.add(finding.source, finding.rule, finding.covers, finding.active);
            tell(Event { time: now.wall, kind: EventKind::Closed, finding });
        }
    }
}

/// Makes a finding one of a rule that says more of the same scan.
fn take_over(finding: &mut Finding, rule: &dyn Rule, found: &Match<'_>, quiet: Duration) {
    finding.rule = rule.name();
    finding.techniques = rule.techniques();
    finding.covers = rule.covers();
    finding.severity = finding.severity.max(found.severity);
    finding.quiet = finding.quiet.max(quiet).max(rule.patience());
    finding.proven |= found.evidence.proven;
    finding.matched = found.now.at;
}

fn update(finding: &mut Finding, lockstep: Option<u64>, now: Now, tell: &mut dyn FnMut(Event)) {
    finding.next_update = next_update(finding.probes());
    finding.judge(lockstep);
    tell(finding.event(EventKind::Updated, now));
}

/// The next power of ten.
fn next_update(probes: u64) -> u64 {
    10u64.saturating_pow(probes.max(1).ilog10() + 1)
}

#[cfg(test)]
mod tests;
