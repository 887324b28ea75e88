//! Floods of forged sources, and backscatter: seen from the totals, since no single source shows it.
//!
//! Each packet of such a flood has another source, so that most of its sources are new and never come again, and
//! none completes a handshake. Many new clients at once do complete theirs. What such a flood says of its sources
//! is nothing: it is told as one finding without a source, and never as thousands of scanners.

mod settings;

use std::{collections::VecDeque, time::Duration};

use scanguard_common::{
    abi::TURNED_AWAY_SAMPLES,
    account::{SAMPLES, Sample},
    address::Address,
    oracle::Reach,
    outcome::{Exit, ProbeClass, Service},
    sketch,
    tally::Tally,
};

pub use self::settings::Settings;
pub(crate) use self::settings::{BACKSCATTER, FLOOD};
use super::{
    Evidence, Proof, Rule, Severity, Technique,
    findings::{Event, Grounds, Match, Sources, Tracker},
};
use crate::{
    clock::Now,
    observe::{Delta, activity::Activity, history::Window},
    settings::Interval,
};

/// What came since the poll before.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'t> {
    /// What the totals grew by.
    pub delta: &'t Tally,
    /// Some of what those probed whom the doorkeeper turned away.
    pub samples: &'t [Sample],
    /// Whether completed handshakes are seen: not in a capture, where there are no sockets to be asked.
    pub sees_handshakes: bool,
}

/// What one poll added.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Duration,
    /// Sources that were new, each as often as it was turned away.
    new: u64,
    /// Segments that showed that a handshake had been completed.
    completions: u64,
    activity: Activity,
    sees_handshakes: bool,
}

/// Answers that nobody asked for: those of a flooded server, whatever ports it and the flood use.
const BACKSCATTER_CLASSES: &[ProbeClass] = &[ProbeClass::SynAck, ProbeClass::SynAckProbe];

/// Steps that are kept at most: beyond that the oldest goes, and the window is shorter than it should be.
const MAX_STEPS: usize = 1_024;

/// Finds floods and backscatter. Bounded.
pub struct Floods {
    flood: Flood,
    backscatter: Flood,
    steps: VecDeque<Step>,
    samples: VecDeque<Sample>,
}

impl Floods {
    /// Nothing seen yet.
    pub(super) fn new(flood: Settings, backscatter: Settings) -> Self {
        Self {
            flood: Flood { kind: Kind::Flood, settings: flood },
            backscatter: Flood { kind: Kind::Backscatter, settings: backscatter },
            steps: VecDeque::new(),
            samples: VecDeque::new(),
        }
    }

    /// With other settings; what was seen so far stays.
    pub(super) fn adopt(mut self, before: Option<Self>) -> Self {
        if let Some(Self { steps, samples, .. }) = before {
            (self.steps, self.samples) = (steps, samples);
        }
        self
    }

    /// The names of its findings.
    pub(super) fn names(&self) -> [&'static str; 2] {
        [self.flood.name(), self.backscatter.name()]
    }

    /// Takes what came; hands on what is to be told.
    pub(super) fn see(
        &mut self,
        arrived: Arrived<'_>,
        tracker: &mut Tracker,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) {
        self.add(arrived, now.at);
        for rule in [&self.flood, &self.backscatter] {
            let Some(new) = self.matches(rule, now.at) else {
                continue;
            };
            let window = self.window(rule, now.at);
            let mut samples = [Sample::default(); SAMPLES];
            samples.iter_mut().zip(self.samples.iter().rev()).for_each(|(to, from)| *to = *from);
            let delta = Delta { activity: window.activity, samples };
            let reason = rule.reason(new, &window.activity);
            let evidence = Evidence { reason, window, certain: true, proof: Proof::None };
            let found = Match {
                address: Address::UNSPECIFIED,
                grounds: Grounds::Probes {
                    delta: &delta,
                    evidence: &evidence,
                    lockstep: None,
                    campaign: Some(Sources { count: new, examples: Vec::new() }),
                    connected: false,
                },
                severity: rule.severity(),
                now,
            };
            tracker.see(rule, found, tell);
        }
    }

    fn add(&mut self, arrived: Arrived<'_>, at: Duration) {
        let Arrived { delta, samples, sees_handshakes } = arrived;
        let new = delta.exit(Exit::AtTheDoor) + delta.inserted;
        let mut activity = Activity::of_totals(delta);
        for sample in samples {
            let service = sketch::service_bit(Service { protocol: sample.protocol, port: sample.port }, SALT);
            let host = sketch::host_bit(sample.host, SALT);
            activity.distinct.services[service.word] |= service.mask;
            activity.distinct.hosts[host.word] |= host.mask;
        }
        let longest = self.flood.settings.common.window.max(self.backscatter.settings.common.window);
        self.steps.retain(|step| at.saturating_sub(step.at) < longest);
        if self.steps.len() == MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { at, new, completions: delta.completions, activity, sees_handshakes });
        for sample in samples {
            if self.samples.len() == TURNED_AWAY_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(*sample);
        }
    }

    fn in_window(&self, rule: &Flood, at: Duration) -> impl Iterator<Item = &Step> {
        let window = rule.settings.common.window;
        self.steps.iter().filter(move |step| at.saturating_sub(step.at) < window)
    }

    fn window(&self, rule: &Flood, at: Duration) -> Window {
        let mut window = Window { activity: Activity::NONE, first: at };
        for step in self.in_window(rule, at) {
            window.activity.add(&step.activity);
            window.first = window.first.min(step.at);
        }
        window
    }

    /// How many sources there were, if it matches.
    fn matches(&self, rule: &Flood, at: Duration) -> Option<u64> {
        let settings = &rule.settings;
        if !settings.common.enabled {
            return None;
        }
        let (mut new, mut completions, mut activity, mut sees_handshakes) =
            (0u64, 0u64, Activity::NONE, true);
        for step in self.in_window(rule, at) {
            new += step.new;
            completions += step.completions;
            activity.add(&step.activity);
            sees_handshakes &= step.sees_handshakes;
        }
        let least = u128::from(settings.sources_per_second) * settings.common.window.as_millis() / 1_000;
        let is_honest = completions.saturating_mul(HONEST_PART) >= new;
        if u128::from(new) < least || is_honest {
            return None;
        }
        // Many probes of few sources are scans, or few clients.
        let probes = activity.counts.total();
        if new * 2 < probes {
            return None;
        }
        let is_backscatter = activity.counts.of_any(BACKSCATTER_CLASSES) * 2 > probes;
        match rule.kind {
            Kind::Backscatter => is_backscatter,
            // Whoever's connections go through this host completes them unseen.
            Kind::Flood => !is_backscatter && !may_be_clients(&activity, sees_handshakes),
        }
        .then_some(new)
    }
}

/// One new source in so many completes a connection, and they are honest: of forged ones none does.
const HONEST_PART: u64 = 8;

/// Whether most of it may be clients of services whose handshakes are not seen.
fn may_be_clients(activity: &Activity, sees_handshakes: bool) -> bool {
    let probes = activity.counts.total();
    let of_clients = activity.counts.of_any(&[ProbeClass::Syn, ProbeClass::Udp, ProbeClass::UdpEmpty]);
    let unseen = match sees_handshakes {
        true => activity.reached(Reach::Unknown),
        false => activity.reached(Reach::Unknown) + activity.reached(Reach::Open),
    };
    of_clients * 2 > probes && unseen * 2 > probes
}

/// Of the bitmaps of targets: nobody chooses what is sampled.
const SALT: u64 = 0;

/// The names of both.
pub const NAMES: [&str; 2] = [Kind::Flood.name(), Kind::Backscatter.name()];

#[derive(Clone, Copy)]
enum Kind {
    Flood,
    Backscatter,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Backscatter => "backscatter",
        }
    }
}

/// The rules by whose names findings are told. They look at totals, not at single sources.
struct Flood {
    kind: Kind,
    settings: Settings,
}

impl Flood {
    fn reason(&self, new: u64, activity: &Activity) -> String {
        let window = Interval(self.settings.common.window);
        let class = activity.counts.by_frequency().first().map_or("no", |(class, _)| class.label());
        match self.kind {
            Kind::Flood => format!(
                "{class} flood: {} probes from about {new} sources never seen before within {window}, which completed \
                 no handshakes: forged addresses; whose they are says nothing",
                activity.counts.total()
            ),
            Kind::Backscatter => format!(
                "backscatter: {} answers to handshakes that this host did not begin, from about {new} sources within \
                 {window}: somebody floods others with this host's addresses as the source",
                activity.counts.of_any(BACKSCATTER_CLASSES)
            ),
        }
    }
}

impl Rule for Flood {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::NetworkDenialOfService]
    }

    fn severity(&self) -> Severity {
        self.settings.common.severity
    }

    fn classes(&self) -> &'static [ProbeClass] {
        &ProbeClass::ALL
    }
}

#[cfg(test)]
mod tests;
