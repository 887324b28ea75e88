//! Finds floods of forged sources, and backscatter. The module looks at the totals, since no single source shows them.
//!
//! Each packet of such a flood has another source, so most of its sources are new and never come again, and none
//! completes a handshake. Many new clients at once do complete theirs. The sources of such a flood mean nothing: the
//! module reports one finding without a source, and never thousands of scanners.

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
    observe::{
        Delta,
        activity::Activity,
        history::{Waiting, Window},
    },
    settings::Interval,
};

/// The traffic since the previous poll.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'t> {
    /// The growth of the totals.
    pub delta: &'t Tally,
    /// Samples of the targets of sources that the admission filter rejected.
    pub samples: &'t [Sample],
    /// Whether completed handshakes are visible. In a capture they are not, since there are no sockets to ask.
    pub sees_handshakes: bool,
}

/// The contribution of one poll.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Duration,
    /// Number of new sources; each counts as often as it was rejected.
    new: u64,
    /// Number of segments that showed a completed handshake.
    completions: u64,
    activity: Activity,
    sees_handshakes: bool,
}

/// Unsolicited answers: a flooded server sends them, whatever ports it and the flood use.
const BACKSCATTER_CLASSES: &[ProbeClass] = &[ProbeClass::SynAck, ProbeClass::SynAckProbe];

/// Maximum number of steps. Beyond it the oldest step is dropped, and the window is shorter than it should be.
const MAX_STEPS: usize = 1_024;

/// Detects floods and backscatter. Bounded.
pub struct Floods {
    flood: Flood,
    backscatter: Flood,
    steps: VecDeque<Step>,
    samples: VecDeque<Sample>,
}

impl Floods {
    /// Starts with an empty window.
    pub(super) fn new(flood: Settings, backscatter: Settings) -> Self {
        Self {
            flood: Flood { kind: Kind::Flood, settings: flood },
            backscatter: Flood { kind: Kind::Backscatter, settings: backscatter },
            steps: VecDeque::new(),
            samples: VecDeque::new(),
        }
    }

    /// Changes the settings; the window stays.
    pub(super) fn adopt(mut self, before: Option<Self>) -> Self {
        if let Some(Self { steps, samples, .. }) = before {
            (self.steps, self.samples) = (steps, samples);
        }
        self
    }

    /// The rule names of its findings.
    pub(super) fn names(&self) -> [&'static str; 2] {
        [self.flood.name(), self.backscatter.name()]
    }

    /// Takes the traffic of a poll and passes on the matches to report.
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
                bits: None,
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
        let mut window = Window { activity: Activity::NONE, first: at, waiting: Waiting::NONE };
        for step in self.in_window(rule, at) {
            window.activity.add(&step.activity);
            window.first = window.first.min(step.at);
        }
        window
    }

    /// The number of sources, if the rule matches.
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
        // Many probes from few sources are scans, or few clients.
        let probes = activity.counts.total();
        if new * 2 < probes {
            return None;
        }
        let is_backscatter = activity.counts.of_any(BACKSCATTER_CLASSES) * 2 > probes;
        match rule.kind {
            Kind::Backscatter => is_backscatter,
            // This host does not see the handshakes of connections that it forwards.
            Kind::Flood => !is_backscatter && !may_be_clients(&activity, sees_handshakes),
        }
        .then_some(new)
    }
}

/// If one new source in so many completes a connection, the sources are honest: no forged source does.
const HONEST_PART: u64 = 8;

/// Whether most of the traffic may come from clients of services whose handshakes are not visible.
fn may_be_clients(activity: &Activity, sees_handshakes: bool) -> bool {
    let probes = activity.counts.total();
    let of_clients = activity.counts.of_any(&[ProbeClass::Syn, ProbeClass::Udp, ProbeClass::UdpEmpty]);
    let unseen = match sees_handshakes {
        true => activity.reached(Reach::Unknown),
        false => activity.reached(Reach::Unknown) + activity.reached(Reach::Open),
    };
    of_clients * 2 > probes && unseen * 2 > probes
}

/// Salt of the bitmaps of targets. It can be fixed, because a sender cannot choose the samples.
const SALT: u64 = 0;

/// The names of both rules.
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

/// The rules that give the findings their names. They look at totals, not at single sources.
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
                 no handshakes: the addresses are forged, and their owners did not send the probes",
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
