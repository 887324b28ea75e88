//! Finds scans that come from many sources of one IPv6 prefix.
//!
//! One customer of a provider has a /56 or /48, and with it more sources than a scan has ports: each source sends one
//! probe, and none of them is a finding. So the evidence of sources is added up for the prefixes around them, and the
//! narrowest prefix that explains it is the source of the finding. A prefix is none if its evidence comes from one
//! narrower prefix, which then explains it. It is one if several narrower prefixes are findings, though each explains
//! its own part.
//!
//! A wide prefix has many customers, and most of them are honest. The wider a prefix is, the more it takes
//! (`Width`). Sources that meet services count in its favour.
//!
//! Memory and work are bounded: there are at most `MAX_SUSPECTS` prefixes with evidence and `MAX_HONEST` without,
//! and a poll looks only at those with new evidence.

mod settings;
mod suspect;

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher as _,
    time::Duration,
};

use scanguard_common::{
    address::{Address, SourceMask},
    outcome::ProbeClass,
};

pub use self::settings::Settings;
use self::suspect::{CLASSES, Conduct, Crowd, Match as PrefixMatch, News, Suspect, targets};
use super::{
    Evidence, Proof, Rule, Severity, Technique,
    findings::{Event, Grounds, Match, Sources, Tracker},
};
use crate::{
    clock::Now,
    content::salt::Salt,
    observe::{
        Delta,
        activity::Activity,
        history::{Waiting, Window},
    },
    settings::Interval,
};

/// Maximum number of prefixes with evidence. Within a poll there may be twice as many.
const MAX_SUSPECTS: usize = 4_096;
/// The same for prefixes whose sources met services.
const MAX_HONEST: usize = 32_768;

/// The width of a prefix, and how much evidence it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Width {
    bits: u8,
    /// Thresholds are so many times those for a /56.
    factor: u64,
    /// The finding is certain if so many times the honest sources are no more than the others.
    certain: u64,
}

impl Width {
    /// There is no finding if so many times the honest sources are more than the others.
    const HONEST: u64 = 2;
}

/// The widths, the narrowest first: a network, a home, a site, and a provider.
const WIDTHS: [Width; 4] = [
    Width { bits: 64, factor: 1, certain: 4 },
    Width { bits: 56, factor: 1, certain: 4 },
    Width { bits: 48, factor: 2, certain: 8 },
    Width { bits: 32, factor: 8, certain: 32 },
];

/// A prefix: a width, by its place in [`WIDTHS`], and an address without the other bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Prefix {
    place: usize,
    address: Address,
}

impl Prefix {
    fn around(address: Address, place: usize) -> Self {
        Self { place, address: SourceMask::new(WIDTHS[place].bits).apply(address) }
    }

    fn width(self) -> Width {
        WIDTHS[self.place]
    }

    /// The wider prefixes around this one, the narrowest first.
    fn wider(self) -> impl Iterator<Item = Self> {
        (self.place + 1..WIDTHS.len()).map(move |place| Self::around(self.address, place))
    }
}

/// The prefixes around a source, the narrowest first. The /64 is left out for a source that is a whole /64.
fn around(source: Address) -> impl Iterator<Item = Prefix> {
    let all = (0..WIDTHS.len()).map(move |place| Prefix::around(source, place));
    all.skip_while(move |prefix| prefix.place == 0 && prefix.address == source)
}

/// Finds scans of prefixes. Bounded.
pub struct Prefixes {
    rule: PrefixScan,
    salt: Salt,
    suspects: HashMap<Prefix, Suspect>,
    honest: HashMap<Prefix, [Crowd; 2]>,
    changed: Vec<Prefix>,
    /// When the running half of the window began.
    began: Duration,
    left_out: u64,
}

impl Prefixes {
    /// Starts without evidence.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            rule: PrefixScan(settings),
            salt: Salt::default(),
            suspects: HashMap::new(),
            honest: HashMap::new(),
            changed: Vec::new(),
            began: Duration::ZERO,
            left_out: 0,
        }
    }

    /// Changes the settings; the evidence stays.
    pub(super) fn adopt(self, before: Option<Self>) -> Self {
        match before {
            Some(before) => Self { rule: self.rule, ..before },
            None => self,
        }
    }

    /// Sets the hash of sources, before there are any.
    pub(super) fn set_salt(&mut self, salt: Salt) {
        self.salt = salt;
    }

    /// The rule name of its findings.
    pub(super) fn name(&self) -> &'static str {
        self.rule.name()
    }

    /// Number of times that a prefix was not looked at because there were too many.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Records the activity of a source. `is_found` says whether it is a finding of its own.
    pub(super) fn note(&mut self, source: Address, delta: &Delta, is_found: bool, at: Duration) {
        if source.is_v4() {
            return;
        }
        let source_hash = self.salt.hash_one(source);
        match Conduct::of(&delta.activity) {
            Conduct::Odd => {
                let (mut explained, mut part_hash) = (is_found, source_hash);
                for prefix in around(source) {
                    let news = News {
                        activity: &delta.activity,
                        samples: &delta.samples,
                        source,
                        hashes: (source_hash, part_hash),
                        explained,
                        at,
                    };
                    let Some(suspect) = self.suspect(prefix) else {
                        continue;
                    };
                    suspect.add(&news);
                    explained |= suspect.matched.is_some();
                    part_hash = self.salt.hash_one(prefix);
                }
            }
            Conduct::Honest => {
                for prefix in around(source) {
                    if self.honest.len() >= 2 * MAX_HONEST && !self.honest.contains_key(&prefix) {
                        self.left_out += 1;
                        continue;
                    }
                    let [now, _] = self.honest.entry(prefix).or_insert([Crowd::EMPTY; 2]);
                    now.add(source_hash);
                }
            }
            Conduct::Unclear => {}
        }
    }

    /// Records that a source is a finding of its own.
    pub(super) fn found(&mut self, source: Address, proof: Proof, at: Duration) {
        let Some(prefix) = (!source.is_v4()).then(|| around(source).next()).flatten() else {
            return;
        };
        let hash = self.salt.hash_one(source);
        self.add_found(prefix, hash, proof, at);
    }

    fn add_found(&mut self, prefix: Prefix, hash: u64, proof: Proof, at: Duration) {
        // A second call in a poll says nothing new.
        if let Some(suspect) = self.suspect(prefix) {
            suspect.add_found(hash, proof, at);
        }
    }

    /// A prefix that has new evidence; none if there is no room.
    fn suspect(&mut self, prefix: Prefix) -> Option<&mut Suspect> {
        if self.suspects.len() >= 2 * MAX_SUSPECTS && !self.suspects.contains_key(&prefix) {
            self.left_out += 1;
            return None;
        }
        let suspect = self.suspects.entry(prefix).or_insert_with(Suspect::new);
        if !std::mem::replace(&mut suspect.changed, true) {
            self.changed.push(prefix);
        }
        Some(suspect)
    }

    /// Looks at the prefixes with new evidence and passes on the matches to report.
    pub(super) fn tick(&mut self, tracker: &mut Tracker, now: Now, tell: &mut dyn FnMut(Event)) {
        let settings = self.rule.0;
        // The narrowest come first, and in an order that is the same in each run. A match is news for a wider prefix.
        for place in 0..WIDTHS.len() {
            let mut prefixes: Vec<_> = self.changed.extract_if(.., |prefix| prefix.place == place).collect();
            prefixes.sort_unstable();
            for prefix in prefixes {
                self.judge(prefix, &settings, tracker, now, tell);
            }
        }
        self.changed.clear();
        if now.at.saturating_sub(self.began) >= settings.common.window / 2 {
            self.turn(now.at);
        }
        self.make_room();
    }

    fn judge(
        &mut self,
        prefix: Prefix,
        settings: &Settings,
        tracker: &mut Tracker,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        let honest = self.honest.get(&prefix).map(|[now, before]| now.with(before));
        let Some(suspect) = self.suspects.get_mut(&prefix) else {
            return;
        };
        suspect.changed = false;
        let Some(found) = suspect.judge(prefix.width(), honest.as_ref(), settings) else {
            return;
        };
        let sources = Sources { count: found.sources, examples: suspect.examples.to_vec() };
        let delta = Delta { activity: Activity::NONE, samples: suspect.samples };
        suspect.matched = Some((now.at, found.proof));
        let hash = self.salt.hash_one(prefix);
        if let Some(wider) = prefix.wider().next() {
            self.add_found(wider, hash, found.proof, now.at);
        }
        // A wider prefix explains the evidence of this one, too.
        let explains = |wider: Prefix| {
            let matched = self.suspects.get(&wider).and_then(|suspect| suspect.matched);
            matched.is_some_and(|(_, proof)| proof >= found.proof)
        };
        if prefix.wider().any(explains) {
            return;
        }
        let connected = found.activity.completed() > 0;
        let evidence = evidence(prefix, found, settings);
        let severity = self.rule.severity();
        let grounds = Grounds::Probes {
            delta: &delta,
            evidence: &evidence,
            lockstep: None,
            campaign: Some(sources),
            connected,
        };
        let (address, bits) = (prefix.address, Some(prefix.width().bits));
        tracker.see(&self.rule, Match { address, bits, grounds, severity, now }, tell);
    }

    /// Begins the next half of the window, in which the older half is forgotten.
    fn turn(&mut self, at: Duration) {
        self.began = at;
        self.suspects.retain(|_, suspect| suspect.turn());
        self.honest.retain(|_, halves| {
            halves.swap(0, 1);
            halves[0] = Crowd::EMPTY;
            halves[1] != Crowd::EMPTY
        });
        let recent = at.saturating_sub(self.rule.0.common.window);
        for suspect in self.suspects.values_mut() {
            suspect.matched = suspect.matched.filter(|(matched, _)| *matched >= recent);
        }
    }

    /// Forgets the prefixes with the least to remember, down to three quarters of the room.
    fn make_room(&mut self) {
        let excess = |count: usize, most: usize| if count > most { count - most / 4 * 3 } else { 0 };
        let gone = excess(self.suspects.len(), MAX_SUSPECTS);
        for prefix in lightest(&self.suspects, gone, Suspect::weight) {
            self.suspects.remove(&prefix);
            self.left_out += 1;
        }
        let gone = excess(self.honest.len(), MAX_HONEST);
        let weight = |halves: &[Crowd; 2]| halves[0].with(&halves[1]).count().value;
        for prefix in lightest(&self.honest, gone, weight) {
            self.honest.remove(&prefix);
            self.left_out += 1;
        }
    }

    /// Evidence until now counts no more: it was reported, or its sources were released (none: all of them).
    pub(super) fn forget(&mut self, which: Option<&dyn Fn(&Address) -> bool>) {
        self.suspects.retain(|prefix, _| which.is_some_and(|which| !which(&prefix.address)));
    }

    /// The same for the prefix of a finding that is closed.
    pub(super) fn close(&mut self, address: Address, bits: u8) {
        self.suspects.retain(|prefix, _| prefix.address != address || prefix.width().bits != bits);
    }

    /// Whether these sources are all part of one prefix that is a finding.
    pub(super) fn explains(&self, sources: &[Address]) -> bool {
        let Some(first) = sources.first().filter(|source| !source.is_v4()) else {
            return false;
        };
        around(*first).any(|prefix| {
            let is_found = self.suspects.get(&prefix).is_some_and(|suspect| suspect.matched.is_some());
            is_found && sources.iter().all(|source| Prefix::around(*source, prefix.place) == prefix)
        })
    }
}

/// As many as `count` of the prefixes with the least weight.
fn lightest<V>(of: &HashMap<Prefix, V>, count: usize, weight: impl Fn(&V) -> u64) -> HashSet<Prefix> {
    if count == 0 {
        return HashSet::new();
    }
    // Among equals, wider prefixes stay: they tell of more sources.
    let key = |(prefix, value): (&Prefix, &V)| (weight(value), prefix.place, prefix.address);
    let mut all: Vec<_> = of.iter().map(key).collect();
    let count = count.min(all.len());
    all.select_nth_unstable(count - 1);
    all.truncate(count);
    all.into_iter().map(|(_, place, address)| Prefix { place, address }).collect()
}

fn evidence(prefix: Prefix, found: PrefixMatch, settings: &Settings) -> Evidence {
    let PrefixMatch { activity, first, sources, honest, found, certain, proof } = found;
    let (bits, window) = (prefix.width().bits, Interval(settings.common.window));
    let reason = if found > 0 {
        format!(
            "{found} sources or narrower prefixes of one /{bits} are findings of their own, within {window}"
        )
    } else {
        let tried = targets(&activity);
        format!(
            "{sources} sources of one /{bits} share a scan: together they tried {} closed services of {} addresses, \
             within {window}",
            tried.services,
            activity.hosts().value,
        )
    };
    let reason = match honest {
        0 => reason,
        _ => format!("{reason}; {honest} other sources of it met services"),
    };
    Evidence { window: Window { activity, first, waiting: Waiting::NONE }, reason, certain, proof }
}

/// The name of the rule.
pub(super) const NAME: &str = "prefix_scan";

/// The rule that gives the findings their name. It looks at prefixes, not at single sources.
struct PrefixScan(Settings);

impl Rule for PrefixScan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::ActiveScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        CLASSES
    }
}

#[cfg(test)]
mod tests;
