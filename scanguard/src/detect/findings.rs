//! The life of findings: a finding is opened, updated at 10, 100, 1,000 ... probes, and closed after quiet.

use std::{collections::HashMap, time::Duration};

use scanguard_common::address::Address;

use super::{Confidence, Evidence, Rule, geo::Geo, reported::Reported, settings::Settings};
pub use super::{
    finding::{Content, Event, EventKind, Finding, MAX_TARGETS, Spoofable, Target},
    grounds::{Grounds, Match, Sources},
};
use crate::{
    clock::Now,
    content::{ContentEvent, tracker::ContentTracker},
    observe::{Delta, activity::Activity},
};

/// The open findings. Bounded: findings without room are only counted.
pub struct Tracker {
    settings: Settings,
    geo: Geo,
    /// By source. If a source has several findings, none of their rules covers another.
    open: HashMap<Address, Vec<Finding>>,
    count: usize,
    reported: Reported,
    opened: u64,
    refused: u64,
    suppressed: u64,
}

impl Tracker {
    /// Starts without findings.
    pub fn new(settings: Settings) -> Self {
        let reported = Reported::new(settings.max_open as usize);
        Self {
            settings,
            geo: Geo::default(),
            open: HashMap::new(),
            count: 0,
            reported,
            opened: 0,
            refused: 0,
            suppressed: 0,
        }
    }

    /// Changes the settings.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Replaces the databases that give the country and autonomous system of sources.
    pub fn set_geo(&mut self, geo: Geo) {
        self.geo = geo;
    }

    /// The databases in use.
    pub fn geo(&self) -> &Geo {
        &self.geo
    }

    /// The open findings.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values().flatten()
    }

    /// The open findings of a source.
    pub fn of(&self, source: &Address) -> &[Finding] {
        self.open.get(source).map_or(&[], Vec::as_slice)
    }

    /// Number of findings without room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Number of times that a rule matched a finding that was already reported.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Activity of a source up to this time belongs to closed findings of this rule, or of a rule that covers it.
    pub fn reported(&self, rule: &str, address: &Address) -> Duration {
        self.reported.until(rule, address)
    }

    /// After this, activity of these sources up to `at` no longer justifies a ban, and is no evidence for a rule. Their
    /// findings go on. `who` is none for all sources. Returns those sources that have open findings.
    pub fn settle(&mut self, who: Option<&dyn Fn(&Address) -> bool>, at: Duration) -> Vec<Address> {
        let mut settled = Vec::new();
        for (address, findings) in &mut self.open {
            if who.is_none_or(|who| who(address)) {
                findings.iter_mut().for_each(|finding| finding.settled = Some(at));
                settled.push(*address);
            }
        }
        match who {
            Some(_) => settled.iter().for_each(|address| self.reported.settle(*address, at)),
            None => self.reported.settle_all(at),
        }
        settled
    }

    /// Adds activity of a source to its open findings.
    pub fn absorb(&mut self, address: &Address, delta: &Delta, now: Now) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            finding.add(delta, now);
        }
    }

    /// Adds content of a source to its open findings.
    pub fn absorb_said(&mut self, utterance: &ContentEvent, now: Now) {
        for finding in self.open.get_mut(&utterance.source).into_iter().flatten() {
            finding.add_said(utterance, now);
        }
    }

    /// Takes a rule's match, after [`Self::absorb`]. Passes on the events to report, if there are any.
    pub fn see(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let now = found.now;
        let of_source = self.open.entry(found.address).or_default();
        let same = of_source.iter_mut().find(|one| (one.rule, one.bits) == (rule.name(), found.bits));
        // Activity that may be forged is not part of a proven finding, and it does not hide one.
        let proof = found.grounds.proof();
        let is_part = |open: &Finding| rule.covers().contains(&open.rule) && open.proof() <= proof;
        if let Some(finding) = same {
            if proof < finding.proof() {
                self.suppressed += 1;
                return;
            }
            finding.matched = now.at;
            finding.connected |= found.grounds.connected();
            finding.severity = finding.severity.max(found.severity);
            let is_news = finding.confirm(&found.grounds, now);
            if !is_news && finding.size() < finding.next_update {
                self.suppressed += 1;
                return;
            }
            finding.reason = found.grounds.reason(rule);
            update(finding, &found.grounds, now, tell);
        } else if let Some(finding) =
            of_source.iter_mut().find(|open| open.covers(rule.name()) && open.proof() == proof)
        {
            finding.matched = now.at;
            finding.fold(rule, &found.grounds);
            self.suppressed += 1;
            if finding.size() >= finding.next_update {
                update(finding, &found.grounds, now, tell);
            }
        } else if let Some(place) = of_source.iter().position(is_part) {
            let mut finding = of_source.remove(place);
            // Other findings that it covers become part of it.
            let parts = of_source.extract_if(.., |open| is_part(open));
            for mut part in parts {
                self.count -= 1;
                part.reason = format!("{}; goes on as part of {}", part.reason, finding.id);
                tell(part.event(EventKind::Closed, now));
            }
            let quiet = self.settings.quiet;
            take_over(&mut finding, rule, &found, quiet);
            finding.reason = found.grounds.reason(rule);
            update(&mut finding, &found.grounds, now, tell);
            of_source.push(finding);
        } else {
            self.open_new(rule, found, tell);
        }
    }

    fn open_new(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let Match { address, bits, grounds, severity, now } = found;
        if self.count >= self.settings.max_open as usize {
            self.refused += 1;
            if self.open.get(&address).is_some_and(Vec::is_empty) {
                self.open.remove(&address);
            }
            return;
        }
        let reason = grounds.reason(rule);
        let lockstep = grounds.lockstep();
        let (proof, connected) = (grounds.proof(), grounds.connected());
        let (delta, seen, first, certain, sources, content) = match grounds {
            Grounds::Probes { delta, evidence, campaign, .. } => {
                let Evidence { window, certain, .. } = evidence;
                (Some(delta), window.activity, window.first, *certain, campaign.unwrap_or_default(), None)
            }
            Grounds::Said { stats, confidence, .. } => {
                let content = Content::new(stats, confidence);
                (None, Activity::NONE, stats.since, false, Sources::default(), Some(content))
            }
        };
        let mut finding = Finding {
            id: format!("{:x}-{:x}", now.wall.as_millisecond(), self.opened),
            rule: rule.name(),
            techniques: rule.techniques(),
            severity,
            confidence: Confidence::Low,
            spoofable: Spoofable::Yes,
            source: address,
            bits,
            origin: self.geo.origin(&address),
            sources,
            targets: Vec::new(),
            counts: seen.counts.only(rule.classes()),
            content,
            seen,
            classes: rule.classes().to_vec(),
            covers: rule.covers(),
            first: now.wall_of(first),
            last: now.wall,
            reason,
            certain,
            proof,
            connected,
            matched: now.at,
            settled: None,
            active: now.at,
            quiet: self.settings.quiet.max(rule.patience()),
            next_update: 0,
        };
        self.opened += 1;
        self.count += 1;
        if let Some(delta) = delta {
            finding.add_targets(&delta.samples);
        }
        finding.next_update = next_update(finding.size());
        finding.judge(lockstep);
        tell(finding.event(EventKind::Opened, now));
        self.open.entry(address).or_default().push(finding);
    }

    /// Marks sources that were found to send in lockstep. Findings that change are reported again.
    pub fn doubt(&mut self, address: &Address, sources: u64, now: Now, tell: &mut dyn FnMut(Event)) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            if finding.judge(Some(sources)) {
                tell(finding.event(EventKind::Updated, now));
            }
        }
    }

    /// Closes the findings that have been quiet.
    pub fn close_quiet(&mut self, now: Now, visitors: &ContentTracker, tell: &mut dyn FnMut(Event)) {
        self.close(now, visitors, tell, |finding| now.at.saturating_sub(finding.matched) >= finding.quiet);
    }

    /// When the next finding ends, if its rule does not match again.
    pub fn next_close(&self) -> Option<Duration> {
        self.open().map(|finding| finding.matched.saturating_add(finding.quiet)).min()
    }

    /// Closes all findings.
    pub fn close_all(&mut self, now: Now, visitors: &ContentTracker, tell: &mut dyn FnMut(Event)) {
        self.close(now, visitors, tell, |_| true);
    }

    fn close(
        &mut self,
        now: Now,
        visitors: &ContentTracker,
        tell: &mut dyn FnMut(Event),
        over: impl Fn(&Finding) -> bool,
    ) {
        let mut closed = Vec::new();
        self.open.retain(|_, findings| {
            closed.extend(findings.extract_if(.., |finding| over(finding)));
            !findings.is_empty()
        });
        self.count -= closed.len();
        closed.sort_by(|a, b| a.id.cmp(&b.id));
        for mut finding in closed {
            if let Some(stats) = visitors.of(&finding.source, finding.proof()) {
                finding.refresh(stats);
            }
            self.reported.add(finding.source, finding.rule, finding.covers, finding.active);
            tell(Event { time: now.wall, kind: EventKind::Closed, finding });
        }
    }
}

/// Hands a finding over to a more specific rule for the same scan.
fn take_over(finding: &mut Finding, rule: &dyn Rule, found: &Match<'_>, quiet: Duration) {
    finding.rule = rule.name();
    finding.techniques = rule.techniques();
    finding.covers = rule.covers();
    finding.severity = finding.severity.max(found.severity);
    finding.quiet = finding.quiet.max(quiet).max(rule.patience());
    finding.connected |= found.grounds.connected();
    match &found.grounds {
        Grounds::Probes { evidence, .. } => {
            if !finding.rise(evidence, rule.classes().to_vec()) {
                finding.fold(rule, &found.grounds);
            }
            finding.certain |= evidence.certain;
        }
        Grounds::Said { stats, proof, confidence, .. } => {
            finding.content = Some(Content::new(stats, *confidence));
            finding.proof = *proof;
        }
    }
    finding.matched = found.now.at;
}

fn update(finding: &mut Finding, grounds: &Grounds<'_>, now: Now, tell: &mut dyn FnMut(Event)) {
    match grounds {
        Grounds::Probes { .. } => {}
        Grounds::Said { stats, .. } => finding.refresh(stats),
    }
    finding.next_update = next_update(finding.size());
    finding.judge(grounds.lockstep());
    tell(finding.event(EventKind::Updated, now));
}

/// The next power of ten.
fn next_update(probes: u64) -> u64 {
    10u64.saturating_pow(probes.max(1).ilog10() + 1)
}

#[cfg(test)]
mod tests;
