//! Compares what members saw, and decides. Pure: time is passed in, by the server's clock.
//!
//! A member may be wrong, or lie. So a member has one vote about a source, a decision needs three members at least, what
//! one member adds to any number is capped, and no proof counts on the word of one. A member whose sightings nobody
//! else's bear out, where those of others are, is left aside.
//!
//! All sets are exact, so that the same message twice changes nothing, and all are bounded. What a rule counts are
//! items that were missed:
//! * not where the source met a service of the same member: it is a client there;
//! * not a service that the member had at this address within the window, nor one that two members had: when a service
//!   is out, its clients miss it everywhere. Dark addresses have no clients.

mod campaigns;
mod source;
mod state;
mod told;
mod trust;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use ipnet::IpNet;

pub use self::{
    campaigns::{Campaign, Campaigns, Tried},
    state::StateError,
    told::{ToldFinding, ToldFindings},
    trust::MemberReport,
};
use self::{
    source::{Kept, Source, Vote},
    trust::{Member, Numbers},
};
use super::{
    settings::Run,
    wire::{Asked, Batch, Decision, Evidence, Fate, MAX_EVIDENCE, OLDEST, Place, VERSION, Verdict},
};
use crate::{cidr, observe::seen::Met, respond::breaker::Breaker, settings::Interval};

/// What a member adds to the difference of failures and successes, at most.
const MOST_OF_ONE: u64 = 3;
/// What a member adds to the distinct services, at most.
const MOST_PORTS_OF_ONE: usize = 10;
/// By how much failures must exceed successes, as in the detector's random walk.
const WALK: u64 = 9;
/// Over how many members.
const WALK_MEMBERS: usize = 5;
/// Members with proof that make a ban: one alone can be wrong, while anybody can forge what the others saw.
const PROOFS: usize = 2;
/// Members that had a service, so that its misses anywhere are no evidence. One alone could hide every scan.
const SERVED_BY: usize = 2;
/// Members that may be remembered.
const MAX_MEMBERS: usize = 20_000;
/// Places of services that are remembered for each member.
const MAX_PLACES: usize = 1_024;
/// How many decisions are remembered for the status.
const RECENT: usize = 20;
/// How many suspicions are decided within a minute, for each ban that may be.
const SUSPICIONS_PER_BAN: u32 = 10;

/// A member's number here.
type MemberId = u32;

/// A decision that is in force.
#[derive(Clone, Debug)]
struct InForce {
    verdict: Verdict,
    rule: String,
    until: Duration,
}

/// A decision as the status shows it.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When.
    pub at: Duration,
    /// What.
    pub decision: Decision,
}

/// How much was left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// Messages that came again.
    pub duplicates: u64,
    /// Sightings older than the window.
    pub old: u64,
    /// Sources that made room for others.
    pub evicted: u64,
    /// Members that found no room.
    pub unknown_members: u64,
    /// Services that found no room.
    pub places_left_out: u64,
    /// Bans that became suspicions, since there were too many.
    pub held_back: u64,
    /// Suspicions that were not decided, since there were too many.
    pub not_decided: u64,
}

/// Compares what is said of the sources in one partition.
pub struct Correlator {
    settings: Run,
    members: IndexMap<Arc<str>, Member>,
    sources: IndexMap<IpNet, Source>,
    /// Who had a service, by protocol and port, and when last.
    served: HashMap<(u8, u16), HashMap<MemberId, Duration>>,
    /// Services at addresses of members. Nobody says what another has.
    places: HashMap<(MemberId, Place), Duration>,
    /// The addresses of members, with who named them.
    own: HashMap<IpAddr, MemberId>,
    in_force: HashMap<IpNet, InForce>,
    breaker: Breaker,
    /// When the last suspicions were decided.
    suspicions: VecDeque<Duration>,
    recent: VecDeque<Recent>,
    bounds: Bounds,
    swept: usize,
    judged_trust: Duration,
}

impl Correlator {
    /// Knows nothing yet.
    pub fn new(settings: Run) -> Self {
        Self {
            settings,
            members: IndexMap::new(),
            sources: IndexMap::new(),
            served: HashMap::new(),
            places: HashMap::new(),
            own: HashMap::new(),
            in_force: HashMap::new(),
            breaker: Breaker::default(),
            suspicions: VecDeque::new(),
            recent: VecDeque::new(),
            bounds: Bounds::default(),
            swept: 0,
            judged_trust: Duration::ZERO,
        }
    }

    /// A decision that was made before this one began: it is not made again.
    pub fn resume(&mut self, decision: &Decision, at: Duration, now: Duration) {
        let until = at + decision.duration();
        if until > now {
            let (verdict, rule) = (decision.verdict, decision.rule.clone());
            self.in_force.insert(decision.source, InForce { verdict, rule, until });
            self.note_recent(decision.clone(), at);
        }
    }

    /// Takes a message of a member, which the server stored at `at`. Returns the sources that it is about.
    pub fn take(&mut self, host: &str, batch: &Batch, at: Duration) -> Vec<IpNet> {
        let Some(id) = self.member(host, at) else {
            self.bounds.unknown_members += 1;
            return Vec::new();
        };
        let member = &mut self.members[id as usize];
        if member.numbers.take(batch.boot, batch.n) == Numbers::AGAIN {
            self.bounds.duplicates += 1;
            return Vec::new();
        }
        member.messages += 1;
        for ip in &batch.own {
            // Who named an address first keeps it, so that nobody takes over that of another.
            if member.own < super::wire::MAX_NAMED && !self.own.contains_key(ip) {
                member.own += 1;
                self.own.insert(*ip, id);
            }
        }
        for place in &batch.open {
            self.note_open(id, *place, at);
        }
        let mut about = Vec::new();
        for sighting in &batch.sightings {
            let age = Duration::from_millis(sighting.age);
            if age > self.settings.window.min(OLDEST) {
                self.bounds.old += 1;
                continue;
            }
            let seen = at.saturating_sub(age);
            for item in sighting.items.iter().filter(|item| item.3 == Fate(Some(Met::Open))) {
                self.note_open(id, item.place(), seen);
            }
            self.make_room();
            // While a service is out, those who have it name its clients, and those who do not have it cannot.
            let accuses = sighting.items.iter().any(|item| self.is_evidence(id, item, at));
            let source = self.sources.entry(sighting.source).or_default();
            match source.note(id, sighting, seen, accuses) {
                Kept::First => self.members[id as usize].accused(false),
                Kept::Second(first) => {
                    self.members[id as usize].accused(true);
                    self.members[first as usize].borne_out();
                }
                Kept::Later => self.members[id as usize].accused(true),
                Kept::Known => {}
            }
            about.push(sighting.source);
        }
        about.sort_unstable();
        about.dedup();
        about
    }

    fn member(&mut self, host: &str, at: Duration) -> Option<MemberId> {
        let known = self.members.get_index_of(host);
        if known.is_none() && self.members.len() >= MAX_MEMBERS {
            return None;
        }
        let place = known.unwrap_or_else(|| self.members.insert_full(host.into(), Member::default()).0);
        self.members[place].last = at;
        MemberId::try_from(place).ok()
    }

    /// A member had a service.
    fn note_open(&mut self, id: MemberId, place: Place, at: Duration) {
        let member = &mut self.members[id as usize];
        let here = (id, place);
        if !self.places.contains_key(&here) {
            if member.places >= MAX_PLACES {
                self.bounds.places_left_out += 1;
                return;
            }
            member.places += 1;
        }
        let last = self.places.entry(here).or_default();
        *last = at.max(*last);
        let last = self.served.entry((place.1, place.2)).or_default().entry(id).or_default();
        *last = at.max(*last);
    }

    /// Removes the source that says least, if there are too many.
    fn make_room(&mut self) {
        if self.sources.len() < self.settings.max_sources as usize {
            return;
        }
        // Of some that are next to each other: those at a time, so that it costs the same however many there are.
        let all = self.sources.len();
        let looked = (0..64.min(all)).map(|step| (self.swept + step) % all);
        let least = looked.filter_map(|place| {
            let (_, source) = self.sources.get_index(place)?;
            Some((source.votes().len(), source.last(), place))
        });
        if let Some((.., place)) = least.min() {
            self.sources.swap_remove_index(place);
            self.bounds.evicted += 1;
        }
        self.swept = (self.swept + 64) % all;
    }

    /// Whether a miss of this item is evidence.
    fn is_evidence(&self, by: MemberId, item: &Asked, now: Duration) -> bool {
        let since = now.saturating_sub(self.settings.window);
        match item.3.0 {
            Some(Met::Dark) => true,
            Some(Met::Closed | Met::Filtered) => {
                let was_here = self.places.get(&(by, item.place())).is_some_and(|last| *last >= since);
                // Not all of them: in a large fleet thousands have the usual services.
                let served = self.served.get(&(item.1, item.2)).map_or(0, |by| {
                    let having = by.iter().filter(|(id, last)| **last >= since && !self.is_aside(**id));
                    having.take(SERVED_BY).count()
                });
                !was_here && served < SERVED_BY
            }
            Some(Met::Open) | None => false,
        }
    }

    fn is_aside(&self, id: MemberId) -> bool {
        self.members.get_index(id as usize).is_some_and(|(_, member)| member.aside.is_some())
    }

    /// Decides about a source, if there is something to decide. `fence` is the revision of the lease.
    pub fn judge(&mut self, net: IpNet, fence: u64, now: Duration) -> Option<Decision> {
        let found = self.found(net, now)?;
        self.decide(net, found, fence, now)
    }

    /// Decides about a source that shares the work with others, if there is something to decide.
    pub fn judge_shared(
        &mut self,
        net: IpNet,
        campaign: &Campaign,
        fence: u64,
        now: Duration,
    ) -> Option<Decision> {
        let source = self.sources.get(&net)?;
        let since = now.saturating_sub(self.settings.window);
        let Counts { missed_at, failures, successes, .. } = self.count(source, since, now);
        let least = self.settings.members as usize;
        if missed_at.len() < least || failures < successes || self.is_spared(net) {
            return None;
        }
        let found = Found {
            rule: "fleet_campaign",
            reason: campaign.reason(),
            members: missed_at.len(),
            // That others do the same is no proof.
            proven: 0,
            evidence: self.evidence(source, since, now),
        };
        self.decide(net, found, fence, now)
    }

    /// The part of a message that counts for campaigns: failed probes of sources without a decision.
    pub fn tried(&self, host: &str, batch: &Batch, at: Duration) -> Option<(Arc<str>, Vec<Tried>)> {
        let (place, name, _) = self.members.get_full(host)?;
        let id = MemberId::try_from(place).ok().filter(|id| !self.is_aside(*id))?;
        let mut tried = Vec::new();
        for sighting in &batch.sightings {
            let seen = at.saturating_sub(Duration::from_millis(sighting.age));
            if self.in_force.contains_key(&sighting.source) {
                continue;
            }
            let vote = self.sources.get(&sighting.source).and_then(|source| source.vote(id));
            if vote.is_none_or(|vote| vote.met_since(Duration::ZERO) > 0) {
                continue;
            }
            let missed = sighting.items.iter().filter(|item| self.is_evidence(id, item, at));
            tried.extend(missed.map(|item| Tried {
                source: sighting.source,
                service: (item.1, item.2),
                at: seen,
            }));
        }
        Some((Arc::clone(name), tried))
    }

    /// The same of all that is known: for a worker who did not read the messages of the last minutes itself.
    pub fn tried_lately(&self, now: Duration) -> Vec<(Arc<str>, Tried)> {
        let mut tried = Vec::new();
        for (net, source) in self.sources.iter().filter(|(net, _)| !self.in_force.contains_key(*net)) {
            for vote in source.votes().iter().filter(|vote| vote.met_since(Duration::ZERO) == 0) {
                let Some((name, _)) = self.members.get_index(vote.member as usize) else { continue };
                if self.is_aside(vote.member) {
                    continue;
                }
                let lately = vote.missed.iter().filter(|(_, at)| !Campaigns::is_old(*at, now));
                let missed = lately.filter(|(item, at)| self.is_evidence(vote.member, item, *at));
                tried.extend(missed.map(|(item, at)| {
                    (Arc::clone(name), Tried { source: *net, service: (item.1, item.2), at: *at })
                }));
            }
        }
        tried
    }

    fn decide(&mut self, net: IpNet, found: Found, fence: u64, now: Duration) -> Option<Decision> {
        let Found { rule, reason, members, proven, evidence } = found;
        let mut verdict = if proven >= PROOFS { Verdict::Ban } else { Verdict::Suspicion };
        let most = self.settings.max_per_minute;
        self.breaker.close_if_calm(now, most);
        let is_made = |before: &InForce, verdict: Verdict| {
            let left = before.until.saturating_sub(now);
            before.verdict >= verdict && left > self.settings.lasts / 2
        };
        if self.in_force.get(&net).is_some_and(|before| is_made(before, verdict)) {
            return None;
        }
        if verdict == Verdict::Ban && self.breaker.refuses(net, now, most) {
            self.breaker.refused(net, now, most);
            verdict = Verdict::Suspicion;
            if self.in_force.get(&net).is_some_and(|before| is_made(before, verdict)) {
                return None;
            }
            self.bounds.held_back += 1;
        }
        match verdict {
            Verdict::Ban => self.breaker.made(net, now, most),
            Verdict::Suspicion => {
                let minute = now.saturating_sub(Duration::from_secs(60));
                while self.suspicions.front().is_some_and(|at| *at < minute) {
                    self.suspicions.pop_front();
                }
                if self.suspicions.len() >= (most * SUSPICIONS_PER_BAN) as usize {
                    self.bounds.not_decided += 1;
                    return None;
                }
                self.suspicions.push_back(now);
            }
        }
        let lasts = self.settings.lasts;
        self.in_force.insert(net, InForce { verdict, rule: rule.to_owned(), until: now + lasts });
        let decision = Decision {
            v: VERSION,
            source: net,
            verdict,
            rule: rule.to_owned(),
            reason,
            members: u32::try_from(members).unwrap_or(u32::MAX),
            evidence,
            lasts: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
            fence,
        };
        self.note_recent(decision.clone(), now);
        Some(decision)
    }

    /// Decides about the sources that are active, after the window was read as a whole. A source that has been quiet since
    /// its last decision ended is not decided about again because somebody else works on it.
    pub fn judge_active(&mut self, fence: u64, now: Duration) -> Vec<Decision> {
        let since = now.saturating_sub(self.settings.lasts / 2);
        let active = self.sources.iter().filter(|(_, source)| source.last() >= since);
        let active: Vec<_> = active.map(|(net, _)| *net).collect();
        active.into_iter().filter_map(|net| self.judge(net, fence, now)).collect()
    }

    /// A decision could not be told: it is made again when its source goes on.
    pub fn take_back(&mut self, net: IpNet) {
        self.in_force.remove(&net);
    }

    fn note_recent(&mut self, decision: Decision, at: Duration) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { at, decision });
    }

    /// Whether nothing is ever decided about a source: it is allowed, or a member's.
    fn is_spared(&self, net: IpNet) -> bool {
        let allowed =
            self.settings.allow.iter().any(|allowed| allowed.contains(&net) || net.contains(allowed));
        let one = net.prefix_len() == net.max_prefix_len();
        let member =
            if one { self.own.contains_key(&net.addr()) } else { self.own.keys().any(|ip| net.contains(ip)) };
        allowed || member
    }

    /// What the rules say of a source.
    fn found(&self, net: IpNet, now: Duration) -> Option<Found> {
        let source = self.sources.get(&net)?;
        let since = now.saturating_sub(self.settings.window);
        let counts = self.count(source, since, now);
        let least = self.settings.members as usize;
        if counts.missed_at.len() < least || self.is_spared(net) {
            return None;
        }
        let within = Interval(self.settings.window);
        let name = cidr::name(net);
        let members = counts.missed_at.len();
        let sweep = (members >= self.settings.sweep_hosts as usize)
            .then(|| ("fleet_sweep", format!("{name} missed {members} members within {within}")));
        let vertical = (counts.ports.len() >= self.settings.vertical_ports as usize).then(|| {
            let ports = counts.ports.len();
            ("fleet_vertical", format!("{name} missed {ports} services of {members} members within {within}"))
        });
        let (failures, successes) = (counts.failures, counts.successes);
        let walk = (members >= WALK_MEMBERS && failures >= successes + WALK).then(|| {
            (
                "fleet_sweep",
                format!(
                    "{name} missed {failures} services of {members} members and met {successes} within {within}"
                ),
            )
        });
        let (rule, reason) = sweep.or(vertical).or(walk)?;
        let evidence = self.evidence(source, since, now);
        Some(Found { rule, reason, members, proven: counts.proven, evidence })
    }

    fn count(&self, source: &Source, since: Duration, now: Duration) -> Counts {
        let mut counts = Counts::default();
        for vote in source.votes().iter().filter(|vote| !self.is_aside(vote.member)) {
            let missed = self.missed(vote, since, now).map(Asked::place).collect::<HashSet<_>>();
            let met = vote.met_since(since);
            counts.successes += met.min(MOST_OF_ONE);
            counts.proven += usize::from(vote.proven.is_some_and(|at| at >= since));
            if missed.is_empty() {
                continue;
            }
            counts.failures += (missed.len() as u64).min(MOST_OF_ONE);
            if met > 0 {
                continue;
            }
            counts.missed_at.push(vote.member);
            let ports = missed.iter().map(|place| (place.1, place.2)).collect::<HashSet<_>>();
            let mut ports: Vec<_> = ports.into_iter().collect();
            // The same ones each time.
            ports.sort_unstable();
            counts.ports.extend(ports.into_iter().take(MOST_PORTS_OF_ONE));
        }
        counts
    }

    /// The items of a vote that are evidence.
    fn missed<'v>(&self, vote: &'v Vote, since: Duration, now: Duration) -> impl Iterator<Item = &'v Asked> {
        vote.missed
            .iter()
            .filter(move |(_, at)| *at >= since)
            .map(|(item, _)| item)
            .filter(move |item| self.is_evidence(vote.member, item, now))
    }

    fn evidence(&self, source: &Source, since: Duration, now: Duration) -> Vec<Evidence> {
        let votes = source.votes().iter().filter(|vote| !self.is_aside(vote.member));
        let one = |vote: &Vote| {
            let item = *self.missed(vote, since, now).next()?;
            let at = vote.missed.iter().find(|(missed, _)| *missed == item).map_or(now, |(_, at)| *at);
            let (host, _) = self.members.get_index(vote.member as usize)?;
            Some(Evidence { host: host.to_string(), item, age: now.saturating_sub(at).as_secs() })
        };
        votes.filter_map(one).take(MAX_EVIDENCE).collect()
    }

    /// Forgets what is too old, and looks at whom to leave aside; to be called about once a second. Returns the members
    /// who are left aside from now on, and those who are not any more.
    pub fn tick(&mut self, now: Duration) -> Vec<(Arc<str>, Option<String>)> {
        let since = now.saturating_sub(self.settings.window);
        // A part at a time.
        let part = self.sources.len().div_ceil(64).max(64);
        for _ in 0..part.min(self.sources.len()) {
            self.swept = if self.swept < self.sources.len() { self.swept } else { 0 };
            match self.sources.get_index(self.swept) {
                Some((_, source)) if source.last() < since => {
                    self.sources.swap_remove_index(self.swept);
                }
                Some(_) => self.swept += 1,
                None => break,
            }
        }
        self.in_force.retain(|_, decision| decision.until > now);
        if now.saturating_sub(self.judged_trust) < trust::EVERY {
            return Vec::new();
        }
        self.judged_trust = now;
        self.served.retain(|_, by| {
            by.retain(|_, last| *last >= since);
            !by.is_empty()
        });
        let members = &mut self.members;
        self.places.retain(|(id, _), last| {
            let is_kept = *last >= since;
            if !is_kept && let Some((_, member)) = members.get_index_mut(*id as usize) {
                member.places = member.places.saturating_sub(1);
            }
            is_kept
        });
        trust::judge(&mut self.members, now)
    }

    /// How much was left out.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The number of sources.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Decisions in force.
    pub fn in_force(&self) -> usize {
        self.in_force.len()
    }

    /// How many members were heard, and how many of them are left aside.
    pub fn count_members(&self) -> (usize, usize) {
        (self.members.len(), self.members.values().filter(|member| member.aside.is_some()).count())
    }

    /// The members.
    pub fn members(&self, now: Duration) -> Vec<MemberReport> {
        self.members.iter().map(|(name, member)| member.report(name, now)).collect()
    }

    /// The last decisions, the oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Recent> {
        self.recent.iter()
    }

    /// All that is known of a source, member by member, in lines.
    pub fn explain(&self, net: IpNet, now: Duration) -> Vec<String> {
        let Some(source) = self.sources.get(&net) else {
            return Vec::new();
        };
        let since = now.saturating_sub(self.settings.window);
        let mut lines = Vec::new();
        for vote in source.votes() {
            let Some((host, member)) = self.members.get_index(vote.member as usize) else { continue };
            let aside = if member.aside.is_some() { ", left aside" } else { "" };
            let mut said: BTreeMap<Asked, (Duration, bool)> = BTreeMap::new();
            for (item, at) in &vote.missed {
                said.insert(*item, (*at, self.is_evidence(vote.member, item, now)));
            }
            let ago = |at: Duration| format!("{} s ago", now.saturating_sub(at).as_secs());
            let met = vote.met_since(since);
            if met > 0 {
                lines.push(format!("{host}{aside}: met {met} services"));
            }
            for (item, (at, counts)) in said {
                let Asked(ip, protocol, port, fate) = item;
                let fate = fate.0.map_or("unknown", Met::label);
                let why = if counts { "" } else { ", no evidence: the service was there lately" };
                lines.push(format!(
                    "{host}{aside}: {ip} protocol {protocol} port {port} {fate}, {}{why}",
                    ago(at)
                ));
            }
            if let Some(at) = vote.proven {
                lines.push(format!("{host}{aside}: has proof, {}", ago(at)));
            }
        }
        let counts = self.count(source, since, now);
        lines.push(format!(
            "{} members bear it out, {} services, {} failures, {} successes, {} with proof; left out: {} votes",
            counts.missed_at.len(),
            counts.ports.len(),
            counts.failures,
            counts.successes,
            counts.proven,
            source.left_out(),
        ));
        if self.is_spared(net) {
            lines.push("never decided about: it is allowed, or a member's address".to_owned());
        }
        if let Some(decision) = self.in_force.get(&net) {
            let left = decision.until.saturating_sub(now).as_secs();
            let (verdict, rule) = (decision.verdict.label(), &decision.rule);
            lines.push(format!("in force: {verdict} by {rule}, {left} s left"));
        }
        lines
    }
}

/// What a rule found.
struct Found {
    rule: &'static str,
    reason: String,
    members: usize,
    proven: usize,
    evidence: Vec<Evidence>,
}

/// What the rules go by.
#[derive(Default)]
struct Counts {
    /// Members that the source missed, and where it met nothing.
    missed_at: Vec<MemberId>,
    failures: u64,
    successes: u64,
    proven: usize,
    ports: HashSet<(u8, u16)>,
}

#[cfg(test)]
mod tests;
