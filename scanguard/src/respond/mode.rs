//! The mode that is in force, who set it, and until when it has to be confirmed.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mode;
use crate::clock::Now;

/// Who or what set the mode.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum ModeCause {
    /// `response.mode`.
    Configuration,
    /// An order by the control socket.
    Hand {
        /// Who gave it.
        uid: u32,
    },
    /// Too many bans in one minute.
    CircuitBreaker,
    /// `enforce --confirm` was not confirmed in time.
    Unconfirmed,
}

impl std::fmt::Display for ModeCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration => f.write_str("by the configuration (response.mode)"),
            Self::Hand { uid } => write!(f, "by hand (uid {uid})"),
            Self::CircuitBreaker => {
                f.write_str("by the circuit breaker: too many bans in one minute (response.max_per_minute)")
            }
            Self::Unconfirmed => f.write_str("because enforcing was not confirmed in time"),
        }
    }
}

/// The mode with its history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModeState {
    /// In force.
    pub mode: Mode,
    /// Who set it.
    pub cause: ModeCause,
    /// Since when.
    pub since: Timestamp,
    /// What `response.mode` said when it was set.
    pub configured: Mode,
    /// When it falls back to dry run unless it is confirmed, by the clock that does not jump.
    pub deadline: Option<Duration>,
}

impl ModeState {
    /// As configured.
    pub fn configured(mode: Mode, now: Now) -> Self {
        Self { mode, cause: ModeCause::Configuration, since: now.wall, configured: mode, deadline: None }
    }

    /// How long there is yet to confirm.
    pub fn left(&self, now: Now) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(now.at))
    }

    /// How long the kernel keeps a ban that is to last so long (none: without an end). Until enforcing is confirmed, no
    /// longer than there is time to confirm it, so that nobody stays locked out though the agent dies.
    pub fn kept(&self, lasts: Option<Duration>, now: Now) -> Option<Duration> {
        match (lasts, self.left(now)) {
            (Some(lasts), Some(confirm)) => Some(lasts.min(confirm)),
            (lasts, None) => lasts,
            (None, confirm) => confirm,
        }
    }
}
