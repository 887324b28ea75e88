//! Why a rule matched.

use scanguard_common::address::Address;

use super::{Confidence, Evidence, Rule, Severity};
use crate::{
    clock::Now,
    content::{ContentStats, Proof},
    observe::Delta,
};

/// A rule that matched.
pub struct Match<'d> {
    /// The source.
    pub address: Address,
    /// Why it did.
    pub grounds: Grounds<'d>,
    /// How bad it is.
    pub severity: Severity,
    /// When.
    pub now: Now,
}

/// Why a rule matched.
pub enum Grounds<'d> {
    /// By what was probed.
    Probes {
        /// What is new.
        delta: &'d Delta,
        /// The rule's answer.
        evidence: &'d Evidence,
        /// Sources that did the same at the same time, this one included.
        lockstep: Option<u64>,
        /// Who takes part, where it is a campaign.
        campaign: Option<Sources>,
        /// Whether the source has had connections with this host within the horizon of histories.
        connected: bool,
    },
    /// By what was said.
    Said {
        /// All that was, within the window.
        heard: &'d ContentStats,
        /// How it is known that the source said it.
        proof: Proof,
        /// How sure the rule is if it did.
        confidence: Confidence,
        /// The feed of known-bad networks that lists it.
        listed: Option<&'d str>,
        /// As above.
        connected: bool,
    },
}

impl Grounds<'_> {
    pub(super) fn lockstep(&self) -> Option<u64> {
        match self {
            Self::Probes { lockstep, .. } => *lockstep,
            Self::Said { .. } => None,
        }
    }

    /// From which account it is.
    pub(super) fn proof(&self) -> Proof {
        match self {
            Self::Probes { evidence, .. } => evidence.proof,
            Self::Said { proof, .. } => *proof,
        }
    }

    pub(super) fn connected(&self) -> bool {
        match self {
            Self::Probes { connected, .. } | Self::Said { connected, .. } => *connected,
        }
    }

    /// Why, in one sentence: made only when it is told.
    pub(super) fn reason(&self, rule: &dyn Rule) -> String {
        match self {
            Self::Probes { evidence, .. } => evidence.reason.clone(),
            Self::Said { heard, listed: None, .. } => rule.words(heard),
            Self::Said { heard, listed: Some(feed), .. } => {
                format!("{}; the source is listed in {feed}", rule.words(heard))
            }
        }
    }
}

/// Sources that share the work.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// How many there are.
    pub count: u64,
    /// Examples, those that did most first.
    pub examples: Vec<Address>,
}
