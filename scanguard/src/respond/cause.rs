//! The cause of a ban: the input of the policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detect::{
    Confidence,
    findings::{Finding, Spoofable},
};

/// Why a network should be banned. [`super::policy::judge`] judges each kind in its own way.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// A rule found it scanning.
    Rule {
        /// The rule.
        rule: String,
        /// The finding's id.
        finding: String,
        /// The finding's confidence.
        confidence: Confidence,
        /// Whether the address may be forged, and how easily.
        spoofable: Spoofable,
        /// See [`crate::detect::findings::Finding::had_connections`].
        had_connections: bool,
        /// Whether it is for activity after the source was released.
        has_grounds: bool,
        /// The finding's reason.
        reason: String,
    },
    /// A list of known-bad networks contains it.
    Feed {
        /// The feed.
        feed: String,
    },
    /// A user ordered it.
    Hand {
        /// The user's id.
        uid: u32,
        /// The duration; none: until it is taken back.
        lasts: Option<Duration>,
        /// The reason.
        reason: String,
    },
    /// CrowdSec decided it.
    Crowdsec {
        /// Number of the decision.
        decision: u64,
        /// The scenario that CrowdSec found.
        scenario: String,
        /// The duration.
        lasts: Duration,
    },
    /// The fleet decided it, of which this host is a member.
    Fleet {
        /// Number of the decision.
        decision: u64,
        /// The fleet's rule.
        rule: String,
        /// Whether members have proof: without it, the address may be forged.
        proven: bool,
        /// The duration.
        lasts: Duration,
        /// The reason.
        reason: String,
    },
}

impl Cause {
    /// The cause for the sources of a finding.
    pub fn of(finding: &Finding) -> Self {
        let (confidence, spoofable) = finding.known();
        Self::Rule {
            rule: finding.rule.to_owned(),
            finding: finding.id.clone(),
            confidence,
            spoofable,
            had_connections: finding.had_connections(),
            has_grounds: finding.has_grounds(),
            reason: finding.reason.clone(),
        }
    }

    /// The origin that is stored with the ban.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Rule { rule, finding, .. } => Origin::Rule { rule: rule.clone(), finding: finding.clone() },
            Self::Feed { feed } => Origin::Feed { feed: feed.clone() },
            Self::Hand { uid, .. } => Origin::Hand { uid: *uid },
            Self::Crowdsec { decision, .. } => Origin::Crowdsec { decision: *decision },
            Self::Fleet { decision, rule, .. } => Origin::Fleet { decision: *decision, rule: rule.clone() },
        }
    }
}

/// The origin of a ban.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Origin {
    /// The policy, because of a finding.
    Rule {
        /// The rule.
        rule: String,
        /// The finding's id.
        finding: String,
    },
    /// A list of known-bad networks.
    Feed {
        /// The feed.
        feed: String,
    },
    /// A user.
    Hand {
        /// The user's id.
        uid: u32,
    },
    /// CrowdSec.
    Crowdsec {
        /// Number of the decision.
        decision: u64,
    },
    /// The fleet of which this host is a member.
    Fleet {
        /// Number of the decision.
        decision: u64,
        /// The fleet's rule.
        rule: String,
    },
    /// An earlier agent, according to the kernel's maps. The state file with the reason is missing.
    Adopted,
}

impl Origin {
    /// All names that [`Self::label`] returns.
    pub const LABELS: [&'static str; 6] = ["rule", "feed", "hand", "crowdsec", "fleet", "adopted"];

    /// The name in output and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Rule { .. } => "rule",
            Self::Feed { .. } => "feed",
            Self::Hand { .. } => "hand",
            Self::Crowdsec { .. } => "crowdsec",
            Self::Fleet { .. } => "fleet",
            Self::Adopted => "adopted",
        }
    }

    /// Whether somebody other than this agent decided it, or may have. Such a ban is kept in every mode, and it makes
    /// no later ban longer.
    pub const fn is_order(&self) -> bool {
        match self {
            Self::Hand { .. } | Self::Crowdsec { .. } | Self::Fleet { .. } | Self::Adopted => true,
            Self::Rule { .. } | Self::Feed { .. } => false,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule { rule, finding } => write!(f, "rule {rule} (finding {finding})"),
            Self::Feed { feed } => write!(f, "feed {feed}"),
            Self::Hand { uid } => write!(f, "hand (uid {uid})"),
            Self::Crowdsec { decision } => write!(f, "CrowdSec (decision {decision})"),
            Self::Fleet { decision, rule } => write!(f, "the fleet ({rule}, decision {decision})"),
            Self::Adopted => f.write_str("an agent before this one"),
        }
    }
}
