//! Applies the rules to the activity and content of sources, and turns the matches into findings.

use std::{cell::LazyCell, sync::Arc, time::Duration};

use ipnet::IpNet;
use scanguard_common::{
    account::{SAMPLES, Sample},
    actor::{Key, Kind},
    address::Address,
    outcome::ProbeClass,
};

use super::{
    Confidence, Evidence, NOT_AT_ONCE, Plain, Proof, Rule, Severity, Source,
    campaign::Campaigns,
    crafted,
    decoys::Decoys,
    feeds::Feeds,
    findings::{Event, EventKind, Finding, Grounds, Match, Tracker},
    flood::{Arrived, Floods},
    geo::Geo,
    outage::{self, Outage},
    prefixes::Prefixes,
    rules::{self, RuleSet, outbound},
    settings,
};
use crate::{
    clock::Now,
    content::{self, ContentEvent, salt::Salt, tracker::ContentTracker},
    observe::{Delta, activity::Activity, history::History, tools::SynTools},
    outbound::table::Actors,
};

/// Whether a source has completed connections, as far back as histories reach.
fn had_connections(history: &History, now: Now) -> bool {
    history.window(now.at, Duration::MAX).activity.completed() > 0
}

/// Whether a source is known to scan by itself: how proven that is. Findings that never ban, or of low confidence, do
/// not count, nor do those of prefixes around it.
fn proof_of_scan(tracker: &Tracker, source: &Address) -> Option<Proof> {
    let alone =
        tracker.of(source).iter().filter(|finding| finding.bits.is_none() && finding.sources.count == 0);
    let sure = alone.filter(|finding| finding.known().0 > Confidence::Low);
    sure.filter(|finding| rules::that_ban().any(|rule| rule == finding.rule)).map(Finding::proof).max()
}

/// A rule with its properties, which are read once and not for each source.
struct InUse {
    rule: Box<dyn Rule>,
    /// See [`Rule::soonest`].
    soonest: u32,
}

fn in_use(rules: Vec<Box<dyn Rule>>) -> Vec<InUse> {
    rules.into_iter().map(|rule| InUse { soonest: rule.soonest(), rule }).collect()
}

/// All rules and their findings.
pub struct Detector {
    rules: Vec<InUse>,
    /// The rules that look at content.
    content: Vec<Box<dyn Rule>>,
    visitors: ContentTracker,
    campaigns: Option<Campaigns>,
    prefixes: Option<Prefixes>,
    floods: Option<Floods>,
    decoys: Decoys,
    feeds: Feeds,
    tracker: Tracker,
    /// Of actors: whether this host reaches anybody.
    outage: Outage,
    is_captured: bool,
    sketch_salt: Option<u64>,
}

impl Detector {
    /// Creates a detector with these rules.
    pub fn new(rules: impl Into<RuleSet>, settings: settings::Settings) -> Self {
        let RuleSet { rules, content, campaigns, prefixes, floods } = rules.into();
        Self {
            rules: in_use(rules),
            content,
            visitors: ContentTracker::default(),
            campaigns,
            prefixes,
            floods,
            decoys: Decoys::default(),
            feeds: Feeds::default(),
            tracker: Tracker::new(settings),
            outage: Outage::default(),
            is_captured: false,
            sketch_salt: None,
        }
    }

    /// Creates a detector of actors with these rules: of somebody on this host, or behind it, who asks others.
    pub fn of_actors(rules: Vec<Box<dyn Rule>>, settings: settings::Settings) -> Self {
        let detector = Self::new(rules, settings);
        Self { tracker: detector.tracker.of_actors(), ..detector }
    }

    /// The actors that are known, to change them; none if the sources are those who ask this host.
    pub fn actors_mut(&mut self) -> Option<&mut Actors> {
        self.tracker.actors_mut()
    }

    /// Somebody on this host was answered by somebody elsewhere, whom it knew already.
    pub fn reached_somebody(&mut self, at: Duration) {
        self.outage.answered(at);
    }

    /// Replaces the networks that are inside for actors, beside private ones.
    pub fn set_own(&mut self, own: Vec<IpNet>) {
        self.tracker.set_own(own);
    }

    /// From now on the packets are those of captures, see [`Source::is_captured`].
    pub fn reads_captures(&mut self) {
        self.is_captured = true;
    }

    /// Changes rules and settings. Open findings stay open until they have been quiet.
    pub fn reconfigure(&mut self, rules: impl Into<RuleSet>, settings: settings::Settings) {
        let RuleSet { rules, content, campaigns, prefixes, floods } = rules.into();
        self.rules = in_use(rules);
        self.content = content;
        let before = self.campaigns.take();
        self.campaigns = campaigns.map(|campaigns| campaigns.adopt(before));
        let before = self.prefixes.take();
        self.prefixes = prefixes.map(|prefixes| prefixes.adopt(before));
        let before = self.floods.take();
        self.floods = floods.map(|floods| floods.adopt(before));
        self.tracker.reconfigure(settings);
    }

    /// The names of the rules.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.rules
            .iter()
            .map(|InUse { rule, .. }| rule.name())
            .chain(self.content.iter().map(|rule| rule.name()))
            .chain(self.campaigns.iter().map(Campaigns::name))
            .chain(self.prefixes.iter().map(Prefixes::name))
            .chain(self.floods.iter().flat_map(Floods::names))
    }

    /// The least numbers of novelties of a source with which the rules can match.
    pub fn soonest(&self) -> Vec<u32> {
        let at_once = self.rules.iter().map(|InUse { soonest, .. }| *soonest);
        at_once.filter(|soonest| *soonest != NOT_AT_ONCE).collect()
    }

    /// The evidence on which rules match whatever else is known.
    pub fn plain(&self) -> Vec<Plain> {
        self.rules.iter().filter_map(|InUse { rule, .. }| rule.plain()).collect()
    }

    /// The known-bad networks.
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// Replaces the known-bad networks.
    pub fn set_feeds(&mut self, feeds: Feeds) {
        self.feeds = feeds;
    }

    /// Replaces the geo databases, or removes them. Open findings keep the country and system that they have.
    pub fn set_geo(&mut self, geo: Geo) {
        self.tracker.set_geo(geo);
    }

    /// Replaces the list of tools that activity names.
    pub fn set_tools(&mut self, tools: Arc<SynTools>) {
        self.tracker.set_tools(tools);
    }

    /// Sets the salt of the sensor's bitmaps: rules can then tell which services are in them.
    pub fn set_sketch_salt(&mut self, salt: u64) {
        self.sketch_salt = Some(salt);
    }

    /// Sets the hash for content, before any content arrives, so that a run can be repeated exactly.
    pub fn set_salt(&mut self, salt: Salt) {
        self.visitors.set_salt(salt);
        self.prefixes.iter_mut().for_each(|prefixes| prefixes.set_salt(salt));
    }

    /// Replaces the settings and the lists for content.
    pub fn set_content(&mut self, settings: content::settings::Settings) {
        self.visitors.reconfigure(settings);
    }

    /// The recent content of sources.
    pub fn visitors(&self) -> &ContentTracker {
        &self.visitors
    }

    /// Looks at a source with new activity and passes on the events to report.
    pub fn see(
        &mut self,
        address: Address,
        delta: &Delta,
        history: &History,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        self.tracker.absorb(&address, delta, now);
        // A program and its control group do the same, and are no decoys.
        if self.tracker.actors().is_none() {
            self.decoys.note(address, delta);
        } else {
            self.outage.see(Key::from_address(address), &delta.activity, now.at);
        }
        if let Some(campaigns) = &mut self.campaigns {
            campaigns.note(address, delta, now.at);
        }
        let new = &delta.activity;
        self.judge(address, delta, history, now, |rule| rule.concerns(new), tell);
        self.forget_displaced();
        if let Some(prefixes) = &mut self.prefixes {
            let found = proof_of_scan(&self.tracker, &address);
            prefixes.note(address, delta, found.is_some(), now.at);
            found.into_iter().for_each(|proof| prefixes.found(address, proof, now.at));
        }
    }

    /// Looks at a source again whose SYNs were not answered in time, with examples of what it asked for.
    pub fn see_again(
        &mut self,
        address: Address,
        samples: [Sample; SAMPLES],
        history: &History,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        // Its activity was absorbed by findings already.
        let delta = &Delta { activity: Activity::NONE, samples };
        self.judge(address, delta, history, now, |rule| rule.classes().contains(&ProbeClass::Syn), tell);
        self.forget_displaced();
    }

    /// Looks at an actor of whom something else is new than its activity, with its history if there is one.
    pub fn meet(
        &mut self,
        address: Address,
        history: Option<&History>,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let delta = &Delta { activity: Activity::NONE, samples: [Sample::default(); SAMPLES] };
        let nothing = History::default();
        let is_concerned = |rule: &dyn Rule| outbound::is_notice(rule.name());
        self.judge(address, delta, history.unwrap_or(&nothing), now, is_concerned, tell);
    }

    /// The rules that the activity of a source falls short of, with how much of them it reaches.
    pub fn shortfalls(
        &self,
        address: Address,
        history: &History,
        at: Duration,
    ) -> Vec<(&'static str, String)> {
        let delta = &Delta { activity: Activity::NONE, samples: [Sample::default(); SAMPLES] };
        let source = |rule: &dyn Rule| Source {
            address,
            history,
            delta,
            at,
            since: self.tracker.reported(rule.name(), &address).max(self.outage.ended()),
            listed: self.feeds.listing(&address),
            geo: self.tracker.geo(),
            known: self.tracker.actors().and_then(|actors| actors.get(&address)),
            is_captured: self.is_captured,
            sketch_salt: self.sketch_salt,
        };
        let rules = self.rules.iter().map(|in_use| in_use.rule.as_ref());
        rules.filter_map(|rule| Some((rule.name(), rule.shortfall(&source(rule))?))).collect()
    }

    /// Whether nothing is told of an actor by this rule: it is allowed, or it is a control group and programs in it
    /// account for what it did.
    fn is_told_otherwise(&self, rule: &dyn Rule, source: &Source<'_>, evidence: &Evidence) -> bool {
        let Some(actors) = self.tracker.actors() else {
            return false;
        };
        let window = source.at.saturating_sub(evidence.window.first);
        if actors.is_allowed(&source.address, source.at, window) {
            return true;
        }
        let key = source.key();
        key.kind == Kind::Group && {
            let probes = evidence.window.activity.counts.of_any(rule.classes());
            self.tracker.is_told_of_programs(key.group, &outbound::SCANS, probes)
        }
    }

    fn judge(
        &mut self,
        address: Address,
        delta: &Delta,
        history: &History,
        now: Now,
        concerns: impl Fn(&dyn Rule) -> bool,
        tell: &mut dyn FnMut(Event),
    ) {
        let listed = self.feeds.listing(&address);
        let probes = history.probes();
        // The whole history is read only if a rule matches, and then once for all rules that match.
        let connected = LazyCell::new(|| had_connections(history, now));
        for InUse { rule, soonest } in &self.rules {
            // In a flood most sources have sent one probe: no rule has to look closer.
            let too_soon = *soonest != NOT_AT_ONCE && probes < u64::from(*soonest);
            if too_soon || !concerns(rule.as_ref()) {
                continue;
            }
            let since = self.tracker.reported(rule.name(), &address).max(self.outage.ended());
            let geo = self.tracker.geo();
            let known = self.tracker.actors().and_then(|actors| actors.get(&address));
            let (is_captured, sketch_salt) = (self.is_captured, self.sketch_salt);
            let at = now.at;
            let source =
                Source { address, history, delta, at, since, listed, geo, known, is_captured, sketch_salt };
            if let Some(mut evidence) = rule.evaluate(&source) {
                if self.is_told_otherwise(rule.as_ref(), &source, &evidence) {
                    continue;
                }
                let mut severity = rule.severity_of(&evidence);
                if outbound::SCANS.contains(&rule.name()) && self.outage.is_on(now.at) {
                    severity = Severity::Info;
                    evidence.reason.push_str(outage::WORDS);
                }
                if let Some(feed) = listed {
                    severity = severity.raised();
                    evidence.reason.push_str(&format!("; the source is listed in {feed}"));
                }
                if let Some(words) = crafted::in_words(&evidence.window.activity, self.tracker.tools()) {
                    evidence.reason.push_str(&format!("; {words}"));
                }
                let lockstep = self.decoys.sources(&address);
                let connected = *connected;
                let grounds =
                    Grounds::Probes { delta, evidence: &evidence, lockstep, campaign: None, connected };
                self.tracker.see(rule.as_ref(), Match { address, bits: None, grounds, severity, now }, tell);
                let is_program = || Key::from_address(address).kind == Kind::Program;
                if self.tracker.actors().is_some() && is_program() {
                    self.tracker.end_group_of(&address, &outbound::SCANS, now, tell);
                }
            }
        }
    }

    /// Looks at content that a client sent, or an answer to it, with the client's history if there is one. Passes on
    /// the events to report.
    pub fn hear(
        &mut self,
        utterance: &ContentEvent,
        history: Option<&History>,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let Self { content, visitors, feeds, prefixes, tracker, .. } = self;
        let stats = visitors.hear(utterance, now.at);
        let address = utterance.source;
        tracker.absorb_said(utterance, now);
        let proof = utterance.proof;
        let connected = LazyCell::new(|| {
            proof == Proof::Connection || history.is_some_and(|history| had_connections(history, now))
        });
        for rule in content {
            let Some(confidence) = rule.hear(stats) else {
                continue;
            };
            let listed = feeds.listing(&address);
            let severity = if listed.is_some() { rule.severity().raised() } else { rule.severity() };
            let connected = *connected;
            let grounds = Grounds::Said { stats, proof, confidence, listed, connected };
            tracker.see(rule.as_ref(), Match { address, bits: None, grounds, severity, now }, tell);
            if let (Some(prefixes), Some(proof)) = (prefixes.as_mut(), proof_of_scan(tracker, &address)) {
                prefixes.found(address, proof, now.at);
            }
        }
        self.forget_displaced();
    }

    /// Forgets the content of sources whose findings about it gave way: what was reported is not evidence for another
    /// finding.
    fn forget_displaced(&mut self) {
        let displaced = self.tracker.take_displaced_speakers();
        self.forget_reported(displaced);
    }

    /// Forgets the content of these sources, except of those with another open finding about it.
    fn forget_reported(&mut self, sources: Vec<Address>) {
        for source in sources {
            if self.tracker.of(&source).iter().all(|finding| finding.content.is_none()) {
                self.visitors.forget(&source);
            }
        }
    }

    /// The findings without room since the last call: see [`Tracker::take_unplaced`].
    pub fn take_unplaced(&mut self) -> Vec<Finding> {
        self.tracker.take_unplaced()
    }

    /// Releases sources (none: all of them): their activity and content until now no longer justify a ban.
    pub fn settle(&mut self, who: Option<&dyn Fn(&Address) -> bool>, now: Now) {
        for address in self.tracker.settle(who, now.at) {
            self.visitors.forget(&address);
        }
        self.prefixes.iter_mut().for_each(|prefixes| prefixes.forget(who));
    }

    /// Looks at the growth of the totals since the last call.
    pub fn see_all(&mut self, arrived: Arrived<'_>, now: Now, tell: &mut dyn FnMut(Event)) {
        if let Some(floods) = &mut self.floods {
            floods.see(arrived, &mut self.tracker, now, tell);
        }
    }

    /// Compares sources with each other, and closes the findings whose sources have been quiet.
    pub fn tick(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        for (address, sources) in self.decoys.tick(now.at) {
            self.tracker.doubt(&address, sources, now, tell);
        }
        // Prefixes come first: they explain campaigns within them.
        if let Some(prefixes) = &mut self.prefixes {
            prefixes.tick(&mut self.tracker, now, tell);
        }
        if let Some(campaigns) = &mut self.campaigns {
            campaigns.tick(&mut self.tracker, self.prefixes.as_ref(), now, tell);
        }
        let Self { tracker, visitors, prefixes, .. } = self;
        let mut over = Vec::new();
        tracker.close_quiet(now, visitors, &mut |event| {
            if event.kind == EventKind::Closed && event.finding.content.is_some() {
                over.push(event.finding.source);
            }
            if let (EventKind::Closed, Some(bits), Some(prefixes)) =
                (event.kind, event.finding.bits, prefixes.as_mut())
            {
                prefixes.close(event.finding.source, bits);
            }
            tell(event);
        });
        // Activity that was reported is not evidence for another finding.
        self.forget_reported(over);
        self.forget_displaced();
        self.visitors.expire(now.at);
    }

    /// Number of times that a source was not compared for decoys because there were too many.
    pub fn lockstep_left_out(&self) -> u64 {
        self.decoys.left_out()
    }

    /// Number of targets that were dropped from the search for campaigns because there were too many.
    pub fn campaigns_given_up(&self) -> u64 {
        self.campaigns.as_ref().map_or(0, Campaigns::given_up)
    }

    /// Number of times that an IPv6 prefix was not looked at because there were too many.
    pub fn prefixes_left_out(&self) -> u64 {
        self.prefixes.as_ref().map_or(0, Prefixes::left_out)
    }

    /// Closes all findings, because the agent ends.
    pub fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.tracker.close_all(now, &self.visitors, tell);
    }

    /// The open findings, and the count of those that found no room.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}
