//! The life of a finding: opened, updated at 10, 100, 1,000 ... probes, closed after quiet.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use scanguard_common::{account::Distinct, account::Sample, address::Address};

use super::{Evidence, Rule, Severity, Technique, settings::Settings};
use crate::{
    clock::Now,
    observe::{
        Delta,
        activity::Counts,
        distinct::{Estimate, estimate},
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
    /// The rule's name.
    pub rule: &'static str,
    /// What of ATT&CK it is.
    pub techniques: &'static [Technique],
    /// How bad it is.
    pub severity: Severity,
    /// Who scans; an IPv6 source stands for its prefix.
    pub source: Address,
    /// Examples of what was probed.
    pub targets: Vec<Target>,
    /// Probes by class, of the classes that the rule counts.
    pub counts: Counts,
    /// Distinct services and hosts so far.
    distinct: Distinct,
    /// When the first of the probes came, as far back as the rule looked.
    pub first: Timestamp,
    /// When the last came.
    pub last: Timestamp,
    /// Why, in one sentence.
    pub reason: String,
    /// When the rule matched last, by the clock that does not jump.
    matched: Duration,
    /// The number of probes at which it is told again.
    next_update: u64,
}

impl Finding {
    /// All probes.
    pub fn probes(&self) -> u64 {
        self.counts.total()
    }

    /// Distinct services: ports by protocol, and probed IP protocols.
    pub fn services(&self) -> Estimate {
        estimate(&self.distinct.services).at_most(self.probes())
    }

    /// Distinct addresses.
    pub fn hosts(&self) -> Estimate {
        estimate(&self.distinct.hosts).at_most(self.probes())
    }

    fn add(&mut self, delta: &Delta, counts: &Counts, now: Now) {
        self.counts.add(counts);
        self.distinct.union(&delta.activity.distinct);
        self.last = now.wall;
        for sample in &delta.samples {
            if self.targets.len() == MAX_TARGETS {
                return;
            }
            if let Some(target) = target(sample).filter(|target| !self.targets.contains(target)) {
                self.targets.push(target);
            }
        }
    }
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
    /// It goes on: ten times the probes since it was told last.
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

/// What a rule saw of a source at one look.
pub struct Change<'d> {
    /// The source.
    pub address: Address,
    /// What is new.
    pub delta: &'d Delta,
    /// The rule's answer.
    pub evidence: Option<Evidence>,
    /// When.
    pub now: Now,
}

/// The open findings. Bounded: what finds no room is counted.
pub struct Tracker {
    settings: Settings,
    open: HashMap<(&'static str, Address), Finding>,
    opened: u64,
    refused: u64,
    suppressed: u64,
}

impl Tracker {
    /// None open.
    pub fn new(settings: Settings) -> Self {
        Self { settings, open: HashMap::new(), opened: 0, refused: 0, suppressed: 0 }
    }

    /// Takes other settings.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The open findings.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values()
    }

    /// Findings that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Times that a rule matched a finding that was already told.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Takes a rule's answer; gives what is to be told, if anything.
    pub fn see(&mut self, rule: &dyn Rule, change: Change<'_>) -> Option<Event> {
        let Change { address, delta, evidence, now } = change;
        let key = (rule.name(), address);
        let new = delta.activity.counts.only(rule.classes());
        if let Some(finding) = self.open.get_mut(&key) {
            finding.add(delta, &new, now);
            let evidence = evidence?;
            finding.matched = now.at;
            if finding.probes() < finding.next_update {
                self.suppressed += 1;
                return None;
            }
            finding.next_update = next_update(finding.probes());
            finding.reason = evidence.reason;
            return Some(Event { time: now.wall, kind: EventKind::Updated, finding: finding.clone() });
        }
        let evidence = evidence?;
        if self.open.len() >= self.settings.max_open as usize {
            self.refused += 1;
            return None;
        }
        let counts = evidence.window.activity.counts.only(rule.classes());
        let mut finding = Finding {
            id: format!("{:x}-{:x}", now.wall.as_millisecond(), self.opened),
            rule: rule.name(),
            techniques: rule.techniques(),
            severity: rule.severity(),
            source: address,
            targets: Vec::new(),
            counts,
            distinct: evidence.window.activity.distinct,
            first: now.wall_of(evidence.window.first),
            last: now.wall,
            reason: evidence.reason,
            matched: now.at,
            next_update: 0,
        };
        self.opened += 1;
        // The newest probes are in the window already; their targets are not.
        finding.add(delta, &Counts::ZERO, now);
        finding.next_update = next_update(finding.probes());
        self.open.insert(key, finding.clone());
        Some(Event { time: now.wall, kind: EventKind::Opened, finding })
    }

    /// Closes what has been quiet.
    pub fn close_quiet(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        let quiet = self.settings.quiet;
        self.close(now, tell, |finding| now.at.saturating_sub(finding.matched) >= quiet);
    }

    /// When the next finding is over, if its rule does not match again.
    pub fn next_close(&self) -> Option<Duration> {
        let matched = self.open.values().map(|finding| finding.matched).min()?;
        Some(matched.saturating_add(self.settings.quiet))
    }

    /// Closes everything.
    pub fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.close(now, tell, |_| true);
    }

    fn close(&mut self, now: Now, tell: &mut dyn FnMut(Event), over: impl Fn(&Finding) -> bool) {
        let mut closed: Vec<_> =
            self.open.extract_if(|_, finding| over(finding)).map(|(_, finding)| finding).collect();
        closed.sort_by(|a, b| a.id.cmp(&b.id));
        for finding in closed {
            tell(Event { time: now.wall, kind: EventKind::Closed, finding });
        }
    }
}

/// The next power of ten.
fn next_update(probes: u64) -> u64 {
    10u64.saturating_pow(probes.max(1).ilog10() + 1)
}

#[cfg(test)]
mod tests {
    use scanguard_common::outcome::ProbeClass;

    use super::*;
    use crate::{detect::rules::testing::Script, observe::settings};

    /// Matches whenever it is asked.
    struct Always;

    impl Rule for Always {
        fn name(&self) -> &'static str {
            "always"
        }
        fn techniques(&self) -> &'static [Technique] {
            &[Technique::ActiveScanning]
        }
        fn severity(&self) -> Severity {
            Severity::Info
        }
        fn classes(&self) -> &'static [ProbeClass] {
            &[ProbeClass::Syn]
        }
        fn soonest(&self) -> u32 {
            1
        }
        fn evaluate(&self, source: &super::super::Source<'_>) -> Option<Evidence> {
            let window = source.window(settings::Settings::default().horizon);
            Some(Evidence { window, reason: "always".to_owned() })
        }
    }

    fn script(max_open: u32) -> Script {
        Script::new(Box::new(Always), Settings { quiet: Duration::from_secs(60), max_open })
    }

    fn kinds(events: &[Event]) -> Vec<EventKind> {
        events.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn one_scan_is_one_finding_told_at_powers_of_ten_and_closed_after_quiet() {
        let mut script = script(10);
        for second in 0..150 {
            script.at(second).syn(1, 1, 80);
        }
        script.at(300);
        let events = script.events();
        assert_eq!(
            kinds(&events),
            [EventKind::Opened, EventKind::Updated, EventKind::Updated, EventKind::Closed]
        );
        let probes: Vec<_> = events.iter().map(|event| event.finding.probes()).collect();
        assert_eq!(probes, [1, 10, 100, 150]);
        assert!(events.windows(2).all(|pair| pair[0].finding.id == pair[1].finding.id));
        assert_eq!(script.tracker().suppressed(), 147);
    }

    #[test]
    fn a_source_that_comes_back_after_quiet_is_a_new_finding() {
        let mut script = script(10);
        script.at(0).syn(1, 1, 80);
        script.at(100).syn(1, 1, 80);
        let events = script.events();
        assert_eq!(kinds(&events), [EventKind::Opened, EventKind::Closed, EventKind::Opened]);
        assert_ne!(events[0].finding.id, events[2].finding.id);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut script = script(2);
        for source in 1..=5 {
            script.at(0).syn(source, 1, 80);
        }
        assert_eq!(kinds(&script.events()), [EventKind::Opened, EventKind::Opened]);
        assert_eq!(script.tracker().refused(), 3);
    }

    #[test]
    fn targets_are_a_bounded_sample() {
        let mut script = script(2);
        for port in 1..500 {
            script.at(u64::from(port)).syn(1, 1, port);
        }
        script.at(10_000);
        let events = script.events();
        let closed = &events.last().unwrap().finding;
        assert_eq!(closed.targets.len(), MAX_TARGETS);
        assert!(closed.targets.iter().all(|target| target.port.is_some() && target.protocol == 6));
    }
}
