//! What a rule is: what it looks at, and what it says of it.

use std::time::Duration;

use scanguard_common::{address::Address, outcome::ProbeClass};

use super::{
    Confidence, Proof, Severity, Technique,
    geo::{Geo, Origin},
};
use crate::{
    content::ContentStats,
    observe::{
        Delta,
        activity::Activity,
        history::{History, Window},
    },
};

/// What a rule looks at: one source, now.
pub struct Source<'h> {
    /// Who it is.
    pub address: Address,
    /// Its history, the newest probes included.
    pub history: &'h History,
    /// What is new.
    pub delta: &'h Delta,
    /// Time since the start.
    pub at: Duration,
    /// What came before was told already, in findings that are closed.
    pub since: Duration,
    /// The feed of known-bad networks that lists it.
    pub listed: Option<&'h str>,
    /// Where addresses are.
    pub geo: &'h Geo,
}

impl Source<'_> {
    /// What it did in the last `length`, as far as it was not told.
    pub fn window(&self, length: Duration) -> Window {
        self.history.window(self.at, length.min(self.untold()))
    }

    /// What it did before that.
    pub fn before(&self, length: Duration) -> Activity {
        self.history.before(self.at, length.min(self.untold()))
    }

    /// Where it comes from, as far as it is known. Looked up when it is asked for.
    pub fn origin(&self) -> Origin {
        self.geo.origin(&self.address)
    }

    fn untold(&self) -> Duration {
        self.at.saturating_sub(self.since)
    }
}

/// Why a source is said to scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What it did in the rule's window.
    pub window: Window,
    /// One sentence in words.
    pub reason: String,
    /// Whether it is certain that its probes met nothing, or that nobody sends such probes in earnest. If
    /// not, services that this host cannot see may have been met.
    pub certain: bool,
    /// Whether the source did it for certain, or anybody may have written its address into the packets.
    pub proof: Proof,
}

/// What [`Rule::soonest`] says of a rule that polling is soon enough for.
pub const NOT_AT_ONCE: u32 = u32::MAX;

/// Evidence so plain that a rule matches on it whatever else is known: distinct services (no ephemeral ports) that are
/// surely closed, or distinct addresses where they are, tried by SYNs within one poll interval, as many as `services` and one
/// more for each probe that met a service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// The rule.
    pub rule: &'static str,
    /// Distinct services, or distinct addresses.
    pub services: u32,
    /// How far back the rule looks.
    pub window: Duration,
}

/// One way to tell scanning from other traffic: by probes ([`Self::evaluate`]), or by what is said ([`Self::hear`]).
pub trait Rule: Send {
    /// Its name in findings, metrics and configuration.
    fn name(&self) -> &'static str;
    /// What of ATT&CK it finds.
    fn techniques(&self) -> &'static [Technique];
    /// How bad that is.
    fn severity(&self) -> Severity;
    /// The probes that it counts; a source that sent none of them is not shown to it.
    fn classes(&self) -> &'static [ProbeClass] {
        &[]
    }
    /// How many news of a source (distinct services or addresses that were not met, or odd probes) it
    /// takes at least until this rule can match; [`NOT_AT_ONCE`] if that is not what it goes by.
    fn soonest(&self) -> u32 {
        NOT_AT_ONCE
    }
    /// What is so plain that it matches for certain, for the kernel's reflex; none: nothing that the kernel can tell.
    fn plain(&self) -> Option<Plain> {
        None
    }
    /// Rules that say less of the same scan: while a finding of this rule is open, theirs are part of it.
    fn covers(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether what is new of a source may make it match.
    fn concerns(&self, new: &Activity) -> bool {
        new.counts.of_any(self.classes()) > 0
    }
    /// How long its findings stay open at least when it does not match any more.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the source scans, by its probes.
    fn evaluate(&self, _source: &Source<'_>) -> Option<Evidence> {
        None
    }
    /// Whether a source scans, by what it said; how sure that is if nobody else said it.
    fn hear(&self, _heard: &ContentStats) -> Option<Confidence> {
        None
    }
    /// The same in one sentence.
    fn words(&self, _heard: &ContentStats) -> String {
        String::new()
    }
}
