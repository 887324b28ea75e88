//! What an actor tried and missed.
//!
//! Each target counts once while it is known to the actor, so that a client's retries, and services that went down, are
//! no new ones. Ports of the client side are left out: peers and data channels are there.

use std::time::Duration;

use scanguard_common::{
    account::{Distinct, Sample},
    actor::{FAILED_SECONDS, Kind as ActorKind},
    outcome::{Answer, ProbeClass},
    sketch::ASKED_WORDS,
};

use super::{super::plural, peers};
use crate::{
    detect::{
        Evidence, Proof, Source,
        missed::{self, ATTEMPTS},
    },
    observe::{
        activity::Activity,
        distinct::{Estimate, estimate},
        history::{Waiting, Window},
        sampled::Kind,
    },
    settings::Interval,
};

/// So many failures for each success. A client, a crawler or a monitor meets most of what it asks for, also where a
/// third of it is dead.
const FAILURES_PER_SUCCESS: u64 = 2;
/// From so many distinct failures on, the bitmaps tell little: the exact numbers of attempts and answers decide, too.
const MANY: u64 = 400;
/// How many times as many addresses as services are a line of addresses, and the other way round.
const ALIKE: u64 = 4;
/// The part of a block of services and addresses that was tried, at least. Scans fill it. Clients of peers, each at a port
/// of its own, try a diagonal.
const FILL: f64 = 0.3;

/// What answered, and was told nothing. Clients ask for a service in order to say something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knocks {
    /// Distinct addresses.
    pub(super) hosts: u64,
    /// Distinct services.
    pub(super) services: u64,
    /// Connections that were answered.
    answered: u64,
    /// Those in which nothing was said.
    pub(super) silent: u64,
}

impl Knocks {
    pub(super) fn of(activity: &Activity) -> Self {
        let answered = activity.answered(Answer::SynAck);
        let silent = activity.silent().min(answered);
        // Their part of the distinct ones: which of these they were is not known.
        let part = |of: u64| (of * silent).checked_div(answered).unwrap_or(0);
        let (hosts, services) = (activity.met_hosts().value, activity.open_services().value);
        Self { hosts: part(hosts), services: part(services), answered, silent }
    }
}

/// What SYNs asked for in a window, whatever came of it, or will come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The SYNs, each to a target that is new to the actor.
    syns: u64,
    /// Distinct services.
    services: Estimate,
    /// Distinct addresses.
    hosts: Estimate,
}

impl Asked {
    pub(super) fn of(window: &Window) -> Self {
        let Window { activity, waiting: Waiting { services, hosts, .. }, .. } = window;
        let Distinct { asked_services, asked_hosts, .. } = &activity.distinct;
        let syns = activity.counts.of(ProbeClass::Syn);
        let both = |settled: &[u64; ASKED_WORDS], waiting: &[u64; ASKED_WORDS]| {
            let words: [u64; ASKED_WORDS] = std::array::from_fn(|word| settled[word] | waiting[word]);
            estimate(&words).at_most(syns)
        };
        Self { syns, services: both(asked_services, services), hosts: both(asked_hosts, hosts) }
    }

    /// The distinct addresses and services of a maker of packets: its datagrams, too. Nothing answers these.
    pub(super) fn with_datagrams(window: &Window) -> (Estimate, Estimate) {
        let Self { services, .. } = Self::of(window);
        let Distinct { asked_hosts, hosts, .. } = &window.activity.distinct;
        // The bits of an address are the same in all.
        let all: [u64; ASKED_WORDS] =
            std::array::from_fn(|word| asked_hosts[word] | window.waiting.hosts[word] | hosts[word]);
        let sent = window.activity.counts.total();
        (services.and(window.activity.closed_services()).at_most(sent), estimate(&all).at_most(sent))
    }

    /// "190 SYNs to 190 addresses, port 22, within 1m".
    pub(super) fn in_words(&self, samples: &[Sample], length: Duration) -> String {
        let Self { syns, services, hosts } = self;
        // A target counts once: if all have the same port, each is another address. Those that failed count again later.
        let hosts = if services.value <= 1 && length.as_secs() <= FAILED_SECONDS {
            format!("{syns} {}", plural(*syns, "address"))
        } else {
            let hosts = Estimate { value: hosts.value.max(1), ..*hosts };
            format!("{hosts} {}", plural(hosts.value, "address"))
        };
        let within = Interval(length);
        format!("{syns} {} to {hosts}, {}, within {within}", plural(*syns, "SYN"), ports(*services, samples))
    }
}

/// The distinct targets of an actor in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// Services that were missed everywhere they were tried.
    pub(super) services: u64,
    /// Addresses where one was missed.
    pub(super) hosts: u64,
    /// Services that were met.
    met_services: u64,
    /// Addresses where one was met.
    met_hosts: u64,
    /// Connections that were asked for.
    attempts: u64,
    /// Those that were answered.
    answered: u64,
    /// Those of which nobody knows yet what comes of them.
    waiting: u64,
    /// Of those that were met, the ones that were told nothing.
    knocks: Knocks,
    asked: Asked,
}

impl Tried {
    pub(super) fn of(window: &Window) -> Self {
        let activity = &window.activity;
        let (attempts, answered) = (activity.counts.of(ProbeClass::Syn), activity.answered(Answer::SynAck));
        Self {
            services: missed::services(activity, ATTEMPTS, Kind::SERVICES).proven,
            hosts: missed::hosts(activity, ATTEMPTS, Kind::SERVICES).proven,
            met_services: activity.open_services().value,
            met_hosts: activity.met_hosts().value,
            attempts,
            answered,
            waiting: window.waiting.syns().min(attempts.saturating_sub(answered)),
            knocks: Knocks::of(activity),
            asked: Asked::of(window),
        }
    }

    /// Distinct failures: services or addresses, whichever are more.
    pub(super) fn failures(&self) -> u64 {
        self.services.max(self.hosts)
    }

    /// Distinct successes, likewise.
    pub(super) fn successes(&self) -> u64 {
        self.met_services.max(self.met_hosts)
    }

    /// Attempts of which it is known what came of them.
    fn settled(&self) -> u64 {
        self.attempts.saturating_sub(self.waiting)
    }

    /// Targets that were missed, services at addresses. Those that may still answer are none.
    fn targets(&self) -> u64 {
        let exact = self.settled().saturating_sub(self.answered);
        // Targets that are known may have answered, too. Then the estimate is nearer.
        let failures = self.failures().min(self.attempts);
        if exact * 5 >= failures * 4 { exact } else { failures }
    }

    /// Whether most of what was tried was missed.
    pub(super) fn mostly_fails(&self) -> bool {
        let failures = self.failures();
        failures >= self.successes() * FAILURES_PER_SUCCESS
            && (failures < MANY || self.settled() >= self.answered * FAILURES_PER_SUCCESS)
    }

    /// The same, where whoever was told nothing counts as nobody's success. Whoever looks after servers by bare connections
    /// may have as many that do not answer, but not within a minute.
    pub(super) fn mostly_fails_or_knocks(&self) -> bool {
        let failures = self.failures();
        let Knocks { hosts, services, answered, silent } = self.knocks;
        let spoken_to = self.met_services.saturating_sub(services).max(self.met_hosts.saturating_sub(hosts));
        let answered = self.answered.saturating_sub(silent.min(answered));
        failures >= spoken_to * FAILURES_PER_SUCCESS
            && (failures < MANY || self.settled() >= answered * FAILURES_PER_SUCCESS)
    }

    /// Whether a client of peers would do this, if all its peers have the same port: see [`super::peers`].
    pub(super) fn is_among_peers(&self, source: &Source<'_>) -> bool {
        let spoken_to = self.met_hosts.saturating_sub(self.knocks.hosts);
        spoken_to * peers::FAILURES_PER_ANSWER >= self.failures() && peers::port(source).is_some()
    }

    /// Many addresses for each service.
    pub(super) fn is_wide(&self) -> bool {
        self.hosts >= self.services.max(1) * ALIKE
    }

    /// Many services for each address.
    pub(super) fn is_deep(&self) -> bool {
        self.services >= self.hosts.max(1) * ALIKE
    }

    /// A block of services and addresses, of which much was tried.
    pub(super) fn is_filled(&self) -> bool {
        let block = self.services.max(1) * self.hosts.max(1);
        self.targets() as f64 >= block as f64 * FILL
    }

    /// Whether it has the shape of a scan: a line or a block, and no diagonal.
    pub(super) fn is_shaped(&self) -> bool {
        self.is_wide() || self.is_deep() || self.is_filled()
    }

    /// What these attempts lack of a rule: `wanted` has what failed, and how much of it the rule wants. None if nothing was
    /// asked for, or if they lack nothing.
    pub(super) fn shortfall(
        &self,
        wanted: &[(u64, u32, &str)],
        mostly_fails: bool,
        is_shaped: bool,
    ) -> Option<String> {
        let few = wanted.iter().filter(|(failed, least, _)| *failed < u64::from(*least));
        let mut lacks: Vec<_> =
            few.map(|(failed, least, what)| format!("{failed} of {least} {what} failed")).collect();
        if lacks.is_empty() && !mostly_fails {
            lacks.push(format!("{} failed and {} answered", self.failures(), self.successes()));
        }
        if lacks.is_empty() && !is_shaped {
            lacks.push(format!(
                "{} at {} have not the shape of it",
                counted(self.services, "service"),
                counted(self.hosts, "address")
            ));
        }
        (self.attempts > 0 && !lacks.is_empty()).then(|| lacks.join(", "))
    }

    /// "612 SYNs to 612 addresses, port 22, within 1m; 591 failed, 9 have no answer yet".
    pub(super) fn in_words(&self, samples: &[Sample], length: Duration) -> String {
        let asked = self.asked.in_words(samples, length);
        let waiting = match self.waiting {
            0 => String::new(),
            1 => ", 1 has no answer yet".to_owned(),
            many => format!(", {many} have no answer yet"),
        };
        format!("{asked}; {} failed{waiting}", self.targets())
    }

    /// The evidence of these attempts.
    pub(super) fn evidence(&self, source: &Source<'_>, window: Window, length: Duration) -> Evidence {
        let reason = self.in_words(&source.delta.samples, length);
        Evidence { window, reason, certain: true, proof: proof(source) }
    }
}

/// "40 services".
fn counted(number: u64, what: &str) -> String {
    format!("{number} {}", plural(number, what))
}

/// "port 22", or "about 40 ports".
pub(super) fn ports(services: Estimate, samples: &[Sample]) -> String {
    let mut ports =
        samples.iter().filter(|sample| sample.taken == 1 && sample.port != 0).map(|sample| sample.port);
    match (ports.next(), services.value) {
        (Some(port), 0..=1) if ports.all(|other| other == port) => format!("port {port}"),
        (_, number) => format!("{services} {}", plural(number, "port")),
    }
}

/// The kernel sees which process asks. A host behind this one may forge the address of another.
pub(super) fn proof(source: &Source<'_>) -> Proof {
    match source.key().kind {
        ActorKind::Inner => Proof::None,
        ActorKind::Program | ActorKind::Group | ActorKind::Crafter => Proof::Connection,
    }
}

/// Whether the actor asks by sockets, or is a host behind this one: then it is known what came of it.
pub(super) fn knows_fates(source: &Source<'_>) -> bool {
    source.key().kind != ActorKind::Crafter
}
