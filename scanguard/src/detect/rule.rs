//! The trait of rules, their input and their result.

use std::time::Duration;

use scanguard_common::{actor::Key, address::Address, oracle::Reach, outcome::ProbeClass};

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
    outbound::table::Known,
};

/// The input of a rule: one source at one time.
pub struct Source<'h> {
    /// Its address.
    pub address: Address,
    /// Its history, the newest probes included.
    pub history: &'h History,
    /// The new activity.
    pub delta: &'h Delta,
    /// Time since the start.
    pub at: Duration,
    /// Activity before this time was already reported, in findings that are closed.
    pub since: Duration,
    /// The feed of known-bad networks that lists the source.
    pub listed: Option<&'h str>,
    /// The databases of countries and autonomous systems.
    pub geo: &'h Geo,
    /// The actor, if the source is one: somebody on this host, or behind it, who asks others.
    pub known: Option<&'h Known>,
    /// Whether the packets come from a capture. There, an address is dark if it did not answer a datagram, and not because
    /// nobody has been there for a day.
    pub is_captured: bool,
    /// The salt of the sensor's bitmaps, if it is known.
    pub sketch_salt: Option<u64>,
}

impl Source<'_> {
    /// The activity of the last `length` that was not reported yet.
    pub fn window(&self, length: Duration) -> Window {
        self.history.window(self.at, length.min(self.unreported()))
    }

    /// The activity before that.
    pub fn before(&self, length: Duration) -> Activity {
        self.history.before(self.at, length.min(self.unreported()))
    }

    /// Its country and autonomous system, as far as they are known. Each call looks them up.
    pub fn origin(&self) -> Origin {
        self.geo.origin(&self.address)
    }

    /// The name of the actor, if the source is one.
    pub fn key(&self) -> Key {
        Key::from_address(self.address)
    }

    /// How much of this activity is known only by the silence of services, in a capture.
    pub fn silence(&self, activity: &Activity) -> u64 {
        if self.is_captured { activity.reached(Reach::Dark) } else { 0 }
    }

    fn unreported(&self) -> Duration {
        self.at.saturating_sub(self.since)
    }
}

/// The evidence that a source scans.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The activity within the rule's window.
    pub window: Window,
    /// The reason, in one sentence.
    pub reason: String,
    /// Whether it is certain that the probes met nothing, or that no honest software sends such probes. Otherwise they
    /// may have met services that this host cannot see.
    pub certain: bool,
    /// Whether the source itself certainly did it, or anybody can have forged its address.
    pub proof: Proof,
}

/// The value of [`Rule::soonest`] for a rule that can wait for the next poll.
pub const NOT_AT_ONCE: u32 = u32::MAX;

/// Evidence on which a rule matches whatever else is known: a source tried distinct services that are surely closed
/// (ephemeral ports do not count), or distinct addresses where they are closed, by SYNs within one poll interval. It
/// takes as many as `services`, and one more for each distinct service that was met lately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// The rule.
    pub rule: &'static str,
    /// The needed number of distinct services or distinct addresses.
    pub services: u32,
    /// How far back the rule looks.
    pub window: Duration,
}

/// One way to distinguish scans from other traffic: by probes ([`Self::evaluate`]) or by content ([`Self::hear`]).
pub trait Rule: Send {
    /// Its name in findings, metrics and configuration.
    fn name(&self) -> &'static str;
    /// The technique of ATT&CK that it finds.
    fn techniques(&self) -> &'static [Technique];
    /// The severity of its findings.
    fn severity(&self) -> Severity;
    /// The severity of a finding by this evidence: `info` if an honest client may have done the same.
    fn severity_of(&self, _evidence: &Evidence) -> Severity {
        self.severity()
    }
    /// The probe classes that it counts. The detector skips sources that sent none of them.
    fn classes(&self) -> &'static [ProbeClass] {
        &[]
    }
    /// The least number of novelties of a source (distinct services or addresses that were not met, or odd probes)
    /// with which this rule can match; [`NOT_AT_ONCE`] if the rule does not depend on novelties.
    fn soonest(&self) -> u32 {
        NOT_AT_ONCE
    }
    /// Evidence on which the rule certainly matches, for holds in the kernel; none if the kernel cannot recognize any.
    fn plain(&self) -> Option<Plain> {
        None
    }
    /// Less specific rules for the same scan. While a finding of this rule is open, their findings are part of it.
    fn covers(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether the new activity of a source may make the rule match.
    fn concerns(&self, new: &Activity) -> bool {
        new.counts.of_any(self.classes()) > 0
    }
    /// The least time that its findings stay open after the last match.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
    /// Decides from its probes whether the source scans.
    fn evaluate(&self, _source: &Source<'_>) -> Option<Evidence> {
        None
    }
    /// How much of the rule's thresholds the activity of a source reaches, in words; none if it did nothing that the rule
    /// counts, if it reaches all of them, or if the rule does not say.
    fn shortfall(&self, _source: &Source<'_>) -> Option<String> {
        None
    }
    /// Decides from its content whether a source scans. Returns the confidence for the case that the source itself sent
    /// it.
    fn hear(&self, _heard: &ContentStats) -> Option<Confidence> {
        None
    }
    /// The reason for that, in one sentence.
    fn words(&self, _heard: &ContentStats) -> String {
        String::new()
    }
}
