//! Puts what sources did and said before the rules, and what these say into findings.

use std::{cell::LazyCell, time::Duration};

use scanguard_common::address::Address;

use super::{
    NOT_AT_ONCE, Plain, Proof, Rule, Source,
    campaign::Campaigns,
    decoys::Decoys,
    feeds::Feeds,
    findings::{Event, EventKind, Grounds, Match, Tracker},
    flood::{Arrived, Floods},
    geo::Geo,
    rules::RuleSet,
    settings,
};
use crate::{
    clock::Now,
    content::{self, ContentEvent, salt::Salt, tracker::ContentTracker},
    observe::{Delta, history::History},
};

/// Whether a source has completed connections, as far back as histories go.
fn had_connections(history: &History, now: Now) -> bool {
    history.window(now.at, Duration::MAX).activity.completed() > 0
}

/// A rule with what it says of itself, asked once rather than for each source.
struct InUse {
    rule: Box<dyn Rule>,
    /// See [`Rule::soonest`].
    soonest: u32,
}

fn in_use(rules: Vec<Box<dyn Rule>>) -> Vec<InUse> {
    rules.into_iter().map(|rule| InUse { soonest: rule.soonest(), rule }).collect()
}

/// All rules and the findings that they made.
pub struct Detector {
    rules: Vec<InUse>,
    /// Those that go by what is said.
    content: Vec<Box<dyn Rule>>,
    visitors: ContentTracker,
    campaigns: Option<Campaigns>,
    floods: Option<Floods>,
    decoys: Decoys,
    feeds: Feeds,
    tracker: Tracker,
}

impl Detector {
    /// With these rules.
    pub fn new(rules: impl Into<RuleSet>, settings: settings::Settings) -> Self {
        let RuleSet { rules, content, campaigns, floods } = rules.into();
        Self {
            rules: in_use(rules),
            content,
            visitors: ContentTracker::default(),
            campaigns,
            floods,
            decoys: Decoys::default(),
            feeds: Feeds::default(),
            tracker: Tracker::new(settings),
        }
    }

    /// Takes other rules and settings. Open findings stay open until they have been quiet.
    pub fn reconfigure(&mut self, rules: impl Into<RuleSet>, settings: settings::Settings) {
        let RuleSet { rules, content, campaigns, floods } = rules.into();
        self.rules = in_use(rules);
        self.content = content;
        let before = self.campaigns.take();
        self.campaigns = campaigns.map(|campaigns| campaigns.adopt(before));
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
            .chain(self.floods.iter().flat_map(Floods::names))
    }

    /// How many news of a source it takes at least until any rule can match; 0 without rules.
    pub fn soonest(&self) -> u32 {
        self.rules.iter().map(|InUse { soonest, .. }| *soonest).min().unwrap_or(0)
    }

    /// What is so plain that rules match on it for certain.
    pub fn plain(&self) -> Vec<Plain> {
        self.rules.iter().filter_map(|InUse { rule, .. }| rule.plain()).collect()
    }

    /// The known-bad networks.
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// Takes other known-bad networks.
    pub fn set_feeds(&mut self, feeds: Feeds) {
        self.feeds = feeds;
    }

    /// Takes other databases of where addresses are, or none. Findings that are open keep what was known.
    pub fn set_geo(&mut self, geo: Geo) {
        self.tracker.set_geo(geo);
    }

    /// Hashes what is said with this, before anything was: for runs that are to be the same again.
    pub fn set_salt(&mut self, salt: Salt) {
        self.visitors.set_salt(salt);
    }

    /// Takes other settings of what is said, and other lists.
    pub fn set_content(&mut self, settings: content::settings::Settings) {
        self.visitors.reconfigure(settings);
    }

    /// What sources said lately.
    pub fn visitors(&self) -> &ContentTracker {
        &self.visitors
    }

    /// Looks at a source that did something; hands on what is to be told.
    pub fn see(
        &mut self,
        address: Address,
        delta: &Delta,
        history: &History,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        self.tracker.absorb(&address, delta, now);
        self.decoys.note(address, delta);
        if let Some(campaigns) = &mut self.campaigns {
            campaigns.note(address, delta, now.at);
        }
        let listed = self.feeds.listing(&address);
        let probes = history.probes();
        // The whole history is looked at only where a rule matches, and once for all that do.
        let connected = LazyCell::new(|| had_connections(history, now));
        for InUse { rule, soonest } in &self.rules {
            // In a flood most sources have sent one probe: no rule need look closer.
            let too_soon = *soonest != NOT_AT_ONCE && probes < u64::from(*soonest);
            if too_soon || !rule.concerns(&delta.activity) {
                continue;
            }
            let since = self.tracker.reported(rule.name(), &address);
            let geo = self.tracker.geo();
            let source = Source { address, history, delta, at: now.at, since, listed, geo };
            if let Some(mut evidence) = rule.evaluate(&source) {
                let mut severity = rule.severity();
                if let Some(feed) = listed {
                    severity = severity.raised();
                    evidence.reason.push_str(&format!("; the source is listed in {feed}"));
                }
                let lockstep = self.decoys.sources(&address);
                let connected = *connected;
                let grounds =
                    Grounds::Probes { delta, evidence: &evidence, lockstep, campaign: None, connected };
                self.tracker.see(rule.as_ref(), Match { address, grounds, severity, now }, tell);
            }
        }
    }

    /// Looks at what a client said or was answered, with its history if there is one; hands on what is to be told.
    pub fn hear(
        &mut self,
        utterance: &ContentEvent,
        history: Option<&History>,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let Self { content, visitors, feeds, tracker, .. } = self;
        let heard = visitors.hear(utterance, now.at);
        let address = utterance.source;
        tracker.absorb_said(utterance, now);
        let proof = utterance.proof;
        let connected = LazyCell::new(|| {
            proof == Proof::Connection || history.is_some_and(|history| had_connections(history, now))
        });
        for rule in content {
            let Some(confidence) = rule.hear(heard) else {
                continue;
            };
            let listed = feeds.listing(&address);
            let severity = if listed.is_some() { rule.severity().raised() } else { rule.severity() };
            let connected = *connected;
            let grounds = Grounds::Said { heard, proof, confidence, listed, connected };
            tracker.see(rule.as_ref(), Match { address, grounds, severity, now }, tell);
        }
    }

    /// Sources are let go (none: all of them): what they did and said until now is no ground for a ban any more.
    pub fn settle(&mut self, who: Option<&dyn Fn(&Address) -> bool>, now: Now) {
        for address in self.tracker.settle(who, now.at) {
            self.visitors.forget(&address);
        }
    }

    /// Looks at what came in all since the last time.
    pub fn see_all(&mut self, arrived: Arrived<'_>, now: Now, tell: &mut dyn FnMut(Event)) {
        if let Some(floods) = &mut self.floods {
            floods.see(arrived, &mut self.tracker, now, tell);
        }
    }

    /// Looks across sources, and closes the findings whose sources have been quiet.
    pub fn tick(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        for (address, sources) in self.decoys.tick(now.at) {
            self.tracker.doubt(&address, sources, now, tell);
        }
        if let Some(campaigns) = &mut self.campaigns {
            campaigns.tick(&mut self.tracker, now, tell);
        }
        let Self { tracker, visitors, .. } = self;
        let mut over = Vec::new();
        tracker.close_quiet(now, visitors, &mut |event| {
            if event.kind == EventKind::Closed && event.finding.content.is_some() {
                over.push(event.finding.source);
            }
            tell(event);
        });
        // What was told is no evidence for another finding.
        for source in over {
            if tracker.of(&source).iter().all(|finding| finding.content.is_none()) {
                visitors.forget(&source);
            }
        }
        visitors.expire(now.at);
    }

    /// Looks at sources that were not compared for decoys because there were too many.
    pub fn lockstep_left_out(&self) -> u64 {
        self.decoys.left_out()
    }

    /// Targets that were no longer looked at for campaigns because there were too many.
    pub fn campaigns_given_up(&self) -> u64 {
        self.campaigns.as_ref().map_or(0, Campaigns::given_up)
    }

    /// Closes all findings: the agent ends.
    pub fn close_all(&mut self, now: Now, tell: &mut dyn FnMut(Event)) {
        self.tracker.close_all(now, &self.visitors, tell);
    }

    /// The open findings and what was left out.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}
