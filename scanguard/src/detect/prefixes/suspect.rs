//! The recent evidence against one prefix: what the sources in it tried and missed, and how many they are.

use std::time::Duration;

use scanguard_common::{
    account::{SAMPLES, Sample},
    address::Address,
    outcome::ProbeClass,
};
use smallvec::SmallVec;

use super::{Settings, Width};
use crate::{
    detect::{
        Proof,
        missed::{self, ATTEMPTS, DATAGRAMS},
    },
    observe::{activity::Activity, distinct::Sketch, sampled::Kind},
};

/// Maximum number of sources that a finding names.
const MAX_EXAMPLES: usize = 8;

/// A set of sources or prefixes, approximately: up to about 1,400.
pub(super) type Crowd = Sketch<4>;

/// The classes that count: clients send SYNs and datagrams, nobody honest sends the two others.
pub(super) const CLASSES: &[ProbeClass] =
    &[ProbeClass::Syn, ProbeClass::Null, ProbeClass::Xmas, ProbeClass::Udp, ProbeClass::UdpEmpty];
/// Those of TCP.
const SEGMENTS: &[ProbeClass] = &[ATTEMPTS[0], ProbeClass::Null, ProbeClass::Xmas];

/// What a source did since the last look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Conduct {
    /// It certainly missed more than it met.
    Odd,
    /// It met services, and missed less.
    Honest,
    /// Nothing that tells.
    Unclear,
}

impl Conduct {
    pub(super) fn of(activity: &Activity) -> Self {
        let missed = missed::probes(activity, CLASSES);
        let missed_most = missed * 2 >= activity.counts.of_any(CLASSES);
        if missed > 0 && missed_most && targets(activity).any() {
            return Self::Odd;
        }
        let met = activity.completed() > 0 || activity.open_services().value > 0;
        if met { Self::Honest } else { Self::Unclear }
    }
}

/// Distinct services and addresses that were certainly missed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Targets {
    pub(super) services: u64,
    pub(super) hosts: u64,
}

impl Targets {
    fn any(self) -> bool {
        self.services > 0 || self.hosts > 0
    }
}

pub(super) fn targets(activity: &Activity) -> Targets {
    // Late answers arrive at ports that systems hand out.
    let (tcp, udp) = (&[Kind::TcpFixed, Kind::TcpDynamic], &[Kind::UdpFixed]);
    let services =
        missed::services(activity, SEGMENTS, tcp).proven + missed::services(activity, DATAGRAMS, udp).proven;
    let hosts =
        missed::hosts(activity, SEGMENTS, tcp).proven.max(missed::hosts(activity, DATAGRAMS, udp).proven);
    Targets { services, hosts }
}

/// What happened in one half of the window.
#[derive(Clone, Debug)]
struct Half {
    /// The activity of all sources that missed something.
    all: Activity,
    /// The part of it that no narrower prefix explains, nor a source by itself.
    left: Activity,
    /// The sources of all activity.
    sources: Crowd,
    /// The sources of the part.
    left_sources: Crowd,
    /// The next narrower prefixes that the part comes from, or the sources.
    left_parts: Crowd,
    /// The next narrower prefixes, or sources, that are findings of their own.
    found: Crowd,
    /// Those of them whose findings are proven.
    proven: Crowd,
    first: Duration,
}

impl Half {
    const EMPTY: Self = Self {
        all: Activity::NONE,
        left: Activity::NONE,
        sources: Crowd::EMPTY,
        left_sources: Crowd::EMPTY,
        left_parts: Crowd::EMPTY,
        found: Crowd::EMPTY,
        proven: Crowd::EMPTY,
        first: Duration::MAX,
    };

    fn add(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.left.add(&other.left);
        self.sources.union(&other.sources);
        self.left_sources.union(&other.left_sources);
        self.left_parts.union(&other.left_parts);
        self.found.union(&other.found);
        self.proven.union(&other.proven);
        self.first = self.first.min(other.first);
    }
}

/// A prefix whose sources missed something.
pub(super) struct Suspect {
    now: Half,
    before: Half,
    pub(super) samples: [Sample; SAMPLES],
    pub(super) examples: SmallVec<[Address; MAX_EXAMPLES]>,
    /// When it was a finding last, and how proven.
    pub(super) matched: Option<(Duration, Proof)>,
    /// Whether it is among those to judge.
    pub(super) changed: bool,
}

/// The activity of one source, as evidence against the prefixes around it.
pub(super) struct News<'a> {
    pub(super) activity: &'a Activity,
    pub(super) samples: &'a [Sample; SAMPLES],
    pub(super) source: Address,
    /// The hash of the source, and of the next narrower prefix around it.
    pub(super) hashes: (u64, u64),
    /// Whether the source or a narrower prefix is a finding that explains the activity.
    pub(super) explained: bool,
    pub(super) at: Duration,
}

/// Why a prefix is the source of a scan.
#[derive(Clone, Copy)]
pub(super) struct Match {
    pub(super) activity: Activity,
    pub(super) first: Duration,
    /// The sources that missed something.
    pub(super) sources: u64,
    /// Those that did not.
    pub(super) honest: u64,
    /// The narrower prefixes or sources that are findings of their own; 0 if the evidence is that of all together.
    pub(super) found: u64,
    pub(super) certain: bool,
    pub(super) proof: Proof,
}

impl Suspect {
    pub(super) fn new() -> Self {
        Self {
            now: Half::EMPTY,
            before: Half::EMPTY,
            samples: [Sample::default(); SAMPLES],
            examples: SmallVec::new(),
            matched: None,
            changed: false,
        }
    }

    /// Adds the activity of a source that missed something.
    pub(super) fn add(&mut self, news: &News<'_>) {
        let News { activity, samples, source, hashes: (source_hash, part_hash), explained, at } = *news;
        let half = &mut self.now;
        half.first = half.first.min(at);
        half.all.add(activity);
        half.sources.add(source_hash);
        if !explained {
            half.left.add(activity);
            half.left_sources.add(source_hash);
            half.left_parts.add(part_hash);
        }
        self.samples = *samples;
        if self.examples.len() < MAX_EXAMPLES && !self.examples.contains(&source) {
            self.examples.push(source);
        }
    }

    /// Notes that a narrower prefix or a source is a finding of its own. Returns whether that is news.
    pub(super) fn add_found(&mut self, hash: u64, proof: Proof, at: Duration) -> bool {
        let half = &mut self.now;
        let before = (half.found, half.proven);
        half.first = half.first.min(at);
        half.found.add(hash);
        if proof == Proof::Connection {
            half.proven.add(hash);
        }
        (half.found, half.proven) != before
    }

    /// Begins the next half of the window. Returns whether anything is left to remember.
    pub(super) fn turn(&mut self) -> bool {
        self.before = std::mem::replace(&mut self.now, Half::EMPTY);
        if self.before.first == Duration::MAX {
            return false;
        }
        self.examples.clear();
        true
    }

    /// How much there is to remember: prefixes with less give way to others.
    pub(super) fn weight(&self) -> u64 {
        let count = |half: &Half| half.sources.count().value + half.found.count().value;
        count(&self.now) + count(&self.before)
    }

    /// Whether the prefix is the source of a scan. `honest` are the sources in it that met services.
    pub(super) fn judge(&self, width: Width, honest: Option<&Crowd>, settings: &Settings) -> Option<Match> {
        let mut both = self.before.clone();
        both.add(&self.now);
        let odd = both.sources.count().value.max(both.found.count().value);
        // A source that also met services is still odd.
        let mut everybody = both.sources;
        honest.iter().for_each(|honest| everybody.union(honest));
        let honest = everybody.count().value.saturating_sub(both.sources.count().value);
        if honest * Width::HONEST > odd {
            return None;
        }
        let needs = |threshold: u32| u64::from(threshold) * width.factor;
        let certain = honest * width.certain <= odd;
        let found = both.found.count().value;
        if found >= needs(settings.found) {
            // An uncertain finding is told, and not acted upon.
            let is_proven = certain && both.proven.count().value >= needs(settings.found);
            let proof = if is_proven { Proof::Connection } else { Proof::None };
            return Some(Match {
                activity: both.all,
                first: both.first,
                sources: odd,
                honest,
                found,
                certain,
                proof,
            });
        }
        let Targets { services, hosts } = targets(&both.left);
        let sources = both.left_sources.count().value;
        let spread = both.left_parts.count().value >= 2 && sources >= needs(settings.sources);
        let much = services >= needs(settings.services) || hosts >= needs(settings.hosts);
        (spread && much).then_some(Match {
            activity: both.left,
            first: both.first,
            sources,
            honest,
            found: 0,
            certain,
            proof: Proof::None,
        })
    }
}
