//! The grounds of a match: why a rule matched.

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
    /// See [`super::findings::Finding::bits`].
    pub bits: Option<u8>,
    /// The grounds.
    pub grounds: Grounds<'d>,
    /// The severity.
    pub severity: Severity,
    /// The time of the match.
    pub now: Now,
}

/// Why a rule matched.
pub enum Grounds<'d> {
    /// The rule matched on probes.
    Probes {
        /// The new activity.
        delta: &'d Delta,
        /// The rule's evidence.
        evidence: &'d Evidence,
        /// Number of sources that sent in lockstep, this one included.
        lockstep: Option<u64>,
        /// The sources that take part, if it is a campaign.
        campaign: Option<Sources>,
        /// Whether the source had connections with this host within the horizon of histories.
        connected: bool,
    },
    /// The rule matched on content.
    Said {
        /// The whole content within the window.
        stats: &'d ContentStats,
        /// The proof that the source itself sent it.
        proof: Proof,
        /// The confidence of the rule if the source sent it.
        confidence: Confidence,
        /// The feed of known-bad networks that lists the source.
        listed: Option<&'d str>,
        /// Whether the source had connections, as above.
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

    /// The proof of the evidence.
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

    /// The reason in one sentence. It is built only when it is reported.
    pub(super) fn reason(&self, rule: &dyn Rule) -> String {
        match self {
            Self::Probes { evidence, .. } => evidence.reason.clone(),
            Self::Said { stats, listed: None, .. } => rule.words(stats),
            Self::Said { stats, listed: Some(feed), .. } => {
                format!("{}; the source is listed in {feed}", rule.words(stats))
            }
        }
    }
}

/// Sources that share the work.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// The number of sources.
    pub count: u64,
    /// Examples, the most active first.
    pub examples: Vec<Address>,
}
