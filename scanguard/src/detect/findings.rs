//! The life of findings: a finding is opened, updated at 10, 100, 1,000 ... probes, and closed after quiet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use scanguard_common::{
    actor::{Key, Kind},
    address::Address,
};

use super::{
    Confidence, Evidence, Proof, Rule, Technique, crafted,
    geo::{Geo, Origin},
    places::{Place, Places, Room},
    reported::Reported,
    settings::Settings,
};
pub use super::{
    finding::{Content, Direction, Event, EventKind, Finding, MAX_TARGETS, Spoofable, Target},
    grounds::{Grounds, Match, Sources},
};
use crate::{
    clock::Now,
    content::{ContentEvent, tracker::ContentTracker},
    observe::{Delta, activity::Activity, tools::SynTools},
    outbound::{special::is_inside, table::Actors},
};

/// How many findings without room are kept until the next look at them, so that a flood of forged addresses takes
/// little memory. Proven ones are kept in any case. The sources of the others match again if they go on.
const MAX_UNPLACED: usize = 10_000;

/// The open findings. Bounded: where there is no room, the one that is worth least gives way, see `places.rs`.
pub struct Tracker {
    settings: Settings,
    geo: Geo,
    /// The list by which activity names tools.
    tools: Arc<SynTools>,
    /// By source. If a source has several findings, none of their rules covers another.
    open: HashMap<Address, Vec<Finding>>,
    places: Places,
    reported: Reported,
    /// Those who ask others; none if the sources are those who ask this host.
    actors: Option<Actors>,
    /// Networks that are inside for them, beside private ones.
    own: Vec<IpNet>,
    /// Findings without room since the last look at them. They are not open, but the response acts on them, too.
    unplaced: Vec<Finding>,
    /// Sources whose finding about content gave way since the last look.
    displaced_speakers: Vec<Address>,
    made: u64,
    refused: u64,
    displaced: u64,
    suppressed: u64,
}

impl Tracker {
    /// Starts without findings.
    pub fn new(settings: Settings) -> Self {
        let reported = Reported::new(settings.max_open as usize);
        Self {
            settings,
            geo: Geo::default(),
            tools: Arc::default(),
            open: HashMap::new(),
            places: Places::default(),
            reported,
            actors: None,
            own: Vec::new(),
            unplaced: Vec::new(),
            displaced_speakers: Vec::new(),
            made: 0,
            refused: 0,
            displaced: 0,
            suppressed: 0,
        }
    }

    /// The sources are actors: those who ask others.
    #[must_use]
    pub fn of_actors(self) -> Self {
        Self { actors: Some(Actors::default()), places: Places::without_shares(), ..self }
    }

    /// The actors, if the sources are some.
    pub fn actors(&self) -> Option<&Actors> {
        self.actors.as_ref()
    }

    /// The same, to change them.
    pub fn actors_mut(&mut self) -> Option<&mut Actors> {
        self.actors.as_mut()
    }

    /// Replaces the networks that are inside, beside private ones.
    pub fn set_own(&mut self, own: Vec<IpNet>) {
        self.own = own;
    }

    /// Changes the settings.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Replaces the databases that give the country and autonomous system of sources.
    pub fn set_geo(&mut self, geo: Geo) {
        self.geo = geo;
    }

    /// Replaces the list by which activity names tools.
    pub fn set_tools(&mut self, tools: Arc<SynTools>) {
        self.tools = tools;
    }

    /// The list by which activity names tools.
    pub fn tools(&self) -> &SynTools {
        &self.tools
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

    /// Number of findings that gave way to others.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// The findings without room since the last call. Their sources have matched a rule all the same.
    pub fn take_unplaced(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.unplaced)
    }

    /// The sources whose findings about content gave way since the last call.
    pub(super) fn take_displaced_speakers(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.displaced_speakers)
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
            if let Some(actors) = &self.actors {
                finding.actor = Some(actors.actor(address));
            }
            finding.add(delta, now);
            finding.tools = crafted::tools(&finding.seen, &self.tools);
        }
        self.update_places(address);
    }

    /// Adds content of a source to its open findings.
    pub fn absorb_said(&mut self, utterance: &ContentEvent, now: Now) {
        for finding in self.open.get_mut(&utterance.source).into_iter().flatten() {
            finding.add_said(utterance, now);
        }
        self.update_places(&utterance.source);
    }

    /// Gives the findings of a source the places that they are worth now.
    fn update_places(&mut self, address: &Address) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            let worth = finding.worth();
            if let Some(place) = &mut finding.place {
                self.places.update(address, place, &worth);
            }
        }
    }

    /// Takes a rule's match, after [`Self::absorb`]. Passes on the events to report, if there are any.
    pub fn see(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let address = found.address;
        self.take_match(rule, found, tell);
        self.update_places(&address);
    }

    /// Whether what a control group did is told already, as far as it is the same: programs of it have open findings of
    /// these rules with at least half of so many probes.
    pub(super) fn is_told_of_programs(&self, group: u64, rules: &[&str], probes: u64) -> bool {
        let is_part = |finding: &&Finding| {
            let Some(actor) = &finding.actor else { return false };
            let is_program = matches!(actor.key.kind, Kind::Program | Kind::Crafter);
            is_program && actor.key.group == group && rules.contains(&finding.rule)
        };
        let told: u64 = self.open().filter(is_part).map(Finding::probes).sum();
        told > 0 && told.saturating_mul(2) >= probes
    }

    /// Closes the findings of a control group that are about the same as one of a program in it, which is more specific.
    pub(super) fn end_group_of(
        &mut self,
        address: &Address,
        rules: &[&str],
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let of_program = self.of(address).iter().filter(|finding| rules.contains(&finding.rule));
        let Some(program) = of_program.max_by_key(|finding| finding.probes()) else { return };
        let (probes, id) = (program.probes(), program.id.clone());
        let group = Key::of_group(Key::from_address(*address).group).address();
        let Some(findings) = self.open.get_mut(&group) else { return };
        let is_same =
            |open: &mut Finding| rules.contains(&open.rule) && probes.saturating_mul(2) >= open.probes();
        let same = findings.extract_if(.., is_same);
        for mut part in same.collect::<Vec<_>>() {
            leave(&mut self.places, &mut part);
            part.reason = format!("{}; goes on as part of {id}", part.reason);
            tell(part.event(EventKind::Closed, now));
        }
        if self.of(&group).is_empty() {
            self.open.remove(&group);
        }
    }

    fn take_match(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let now = found.now;
        let Some(of_source) = self.open.get_mut(&found.address) else {
            return self.open_new(rule, found, tell);
        };
        let same =
            of_source.iter_mut().find(|finding| (finding.rule, finding.bits) == (rule.name(), found.bits));
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
            finding.techniques = techniques(rule, finding, &self.own);
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
                leave(&mut self.places, &mut part);
                part.reason = format!("{}; goes on as part of {}", part.reason, finding.id);
                tell(part.event(EventKind::Closed, now));
            }
            let quiet = self.settings.quiet;
            take_over(&mut finding, rule, &found, quiet);
            finding.techniques = techniques(rule, &finding, &self.own);
            finding.reason = found.grounds.reason(rule);
            update(&mut finding, &found.grounds, now, tell);
            of_source.push(finding);
        } else {
            self.open_new(rule, found, tell);
        }
    }

    fn open_new(&mut self, rule: &dyn Rule, found: Match<'_>, tell: &mut dyn FnMut(Event)) {
        let now = found.now;
        let mut finding = self.make(rule, found);
        let source = finding.source;
        // Findings about totals have no source, and are as many as there are such rules.
        if source != Address::UNSPECIFIED {
            let worth = finding.worth();
            match self.places.room(&source, &worth, self.settings.max_open as usize) {
                Room::Free => {}
                Room::Instead { source, place, network } => self.displace(&source, place, network, now, tell),
                Room::None => {
                    self.refused += 1;
                    if self.unplaced.len() < MAX_UNPLACED || finding.proof() == Proof::Connection {
                        self.unplaced.push(finding);
                    }
                    return;
                }
            }
            finding.place = Some(self.places.take(source, &worth));
        }
        tell(finding.event(EventKind::Opened, now));
        self.open.entry(source).or_default().push(finding);
    }

    /// Closes a finding because another one needs its place.
    fn displace(
        &mut self,
        source: &Address,
        place: Place,
        network: Option<IpNet>,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let Some(findings) = self.open.get_mut(source) else {
            return;
        };
        let given_up = findings.extract_if(.., |finding| finding.place == Some(place)).next();
        if findings.is_empty() {
            self.open.remove(source);
        }
        let Some(mut finding) = given_up else {
            return;
        };
        leave(&mut self.places, &mut finding);
        self.displaced += 1;
        if finding.content.is_some() {
            self.displaced_speakers.push(*source);
        }
        self.reported.add(finding.source, finding.rule, finding.covers, finding.active);
        let why = match network {
            Some(network) => format!("{network} has its share of findings.max_open"),
            None => "all places are taken (findings.max_open)".to_owned(),
        };
        finding.reason = format!("{}; gave way to a finding of more worth, because {why}", finding.reason);
        tell(finding.event(EventKind::Closed, now));
    }

    /// Makes a finding out of a match. It is not open yet.
    fn make(&mut self, rule: &dyn Rule, found: Match<'_>) -> Finding {
        let Match { address, bits, grounds, severity, now } = found;
        let reason = grounds.reason(rule);
        let lockstep = grounds.lockstep();
        let (proof, connected) = (grounds.proof(), grounds.connected());
        let (delta, seen, first, certain, sources, content) = match grounds {
            Grounds::Probes { delta, evidence, campaign, .. } => {
                let Evidence { window, certain, .. } = evidence;
                let activity = if self.actors.is_some() { window.asked() } else { window.activity };
                (Some(delta), activity, window.first, *certain, campaign.unwrap_or_default(), None)
            }
            Grounds::Said { stats, confidence, .. } => {
                let content = Content::new(stats, confidence);
                (None, Activity::NONE, stats.since, false, Sources::default(), Some(content))
            }
        };
        let mut finding = Finding {
            id: format!("{:x}-{:x}", now.wall.as_millisecond(), self.made),
            rule: rule.name(),
            techniques: rule.techniques(),
            severity,
            confidence: Confidence::Low,
            spoofable: Spoofable::Yes,
            source: address,
            actor: self.actors.as_ref().map(|actors| actors.actor(&address)),
            bits,
            origin: if self.actors.is_some() { Origin::default() } else { self.geo.origin(&address) },
            sources,
            targets: Vec::new(),
            counts: seen.counts.only(rule.classes()),
            content,
            tools: crafted::tools(&seen, &self.tools),
            seen,
            classes: rule.classes().to_vec(),
            covers: rule.covers(),
            first: now.wall_of(first),
            last: now.wall,
            reason,
            certain,
            proof,
            place: None,
            connected,
            matched: now.at,
            settled: None,
            active: now.at,
            quiet: self.settings.quiet.max(rule.patience()),
            next_update: 0,
        };
        self.made += 1;
        if let Some(delta) = delta {
            finding.add_targets(&delta.samples);
        }
        finding.techniques = techniques(rule, &finding, &self.own);
        finding.next_update = next_update(finding.size());
        finding.judge(lockstep);
        finding
    }

    /// Marks sources that were found to send in lockstep. Findings that change are reported again.
    pub fn doubt(&mut self, address: &Address, sources: u64, now: Now, tell: &mut dyn FnMut(Event)) {
        for finding in self.open.get_mut(address).into_iter().flatten() {
            if finding.judge(Some(sources)) {
                tell(finding.event(EventKind::Updated, now));
            }
        }
        self.update_places(address);
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
        closed.iter_mut().for_each(|finding| leave(&mut self.places, finding));
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

/// The techniques of a finding. Where all targets of an actor that are known are inside, in private or own networks, it is
/// the discovery of services by somebody who is in already.
fn techniques(rule: &dyn Rule, finding: &Finding, own: &[IpNet]) -> &'static [Technique] {
    let is_inside = finding.direction() == Direction::Outbound
        && !finding.targets.is_empty()
        && finding.targets.iter().all(|target| is_inside(target.ip, own));
    if is_inside { &[Technique::NetworkServiceDiscovery] } else { rule.techniques() }
}

/// Gives the place of a finding back.
fn leave(places: &mut Places, finding: &mut Finding) {
    if let Some(place) = finding.place.take() {
        places.leave(&finding.source, place);
    }
}

/// Hands a finding over to a more specific rule for the same scan.
fn take_over(finding: &mut Finding, rule: &dyn Rule, found: &Match<'_>, quiet: Duration) {
    finding.rule = rule.name();
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
