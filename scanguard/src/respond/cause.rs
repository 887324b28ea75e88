//! Where a ban comes from: what the policy is asked about.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detect::{Confidence, findings::Spoofable};

/// Why somebody is to be banned. Each kind is judged in its own way by [`super::policy::judge`].
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// A rule found it scanning.
    Rule {
        /// The rule.
        rule: String,
        /// The finding's id.
        finding: String,
        /// How sure it is.
        confidence: Confidence,
        /// How easily the address may be a forgery.
        spoofable: Spoofable,
        /// See [`crate::detect::findings::Finding::had_connections`].
        had_connections: bool,
        /// Whether it is for what its source did since it was let go.
        has_grounds: bool,
        /// The finding's words.
        reason: String,
    },
    /// A list of known-bad networks has it.
    Feed {
        /// The feed.
        feed: String,
    },
    /// Somebody ordered it.
    Hand {
        /// Who.
        uid: u32,
        /// For how long; none: until it is taken back.
        lasts: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// CrowdSec decided it.
    Crowdsec {
        /// Number of the decision.
        decision: u64,
        /// What was found.
        scenario: String,
        /// For how long.
        lasts: Duration,
    },
}

impl Cause {
    /// What is remembered of it.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Rule { rule, finding, .. } => Origin::Rule { rule: rule.clone(), finding: finding.clone() },
            Self::Feed { feed } => Origin::Feed { feed: feed.clone() },
            Self::Hand { uid, .. } => Origin::Hand { uid: *uid },
            Self::Crowdsec { decision, .. } => Origin::Crowdsec { decision: *decision },
        }
    }
}

/// Who made a ban.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Origin {
    /// The policy, of a finding.
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
    /// Somebody.
    Hand {
        /// Who.
        uid: u32,
    },
    /// CrowdSec.
    Crowdsec {
        /// Number of the decision.
        decision: u64,
    },
    /// An agent before this one, as the kernel's maps say; the state file, which would say why, is not there.
    Adopted,
}

impl Origin {
    /// All names that [`Self::label`] gives.
    pub const LABELS: [&'static str; 5] = ["rule", "feed", "hand", "crowdsec", "adopted"];

    /// The name in output and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Rule { .. } => "rule",
            Self::Feed { .. } => "feed",
            Self::Hand { .. } => "hand",
            Self::Crowdsec { .. } => "crowdsec",
            Self::Adopted => "adopted",
        }
    }

    /// Whether somebody decided it, rather than this agent, or may have: it is kept whatever the mode, and makes nobody's
    /// next ban longer.
    pub const fn is_order(&self) -> bool {
        match self {
            Self::Hand { .. } | Self::Crowdsec { .. } | Self::Adopted => true,
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
            Self::Adopted => f.write_str("an agent before this one"),
        }
    }
}
