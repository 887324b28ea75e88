//! The mode in force, its cause, and the time until which it has to be confirmed.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mode;
use crate::clock::Now;

/// The cause of the mode.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum ModeCause {
    /// `response.mode`.
    Configuration,
    /// An order over the control socket.
    Hand {
        /// The id of the user who gave it.
        uid: u32,
    },
    /// An earlier version fell back to dry-run after too many bans in one minute. This version writes it no more than it
    /// found it in a state file.
    CircuitBreaker,
    /// `enforce --confirm` was not confirmed in time.
    Unconfirmed,
}

impl std::fmt::Display for ModeCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration => f.write_str("by the configuration (response.mode)"),
            Self::Hand { uid } => write!(f, "by hand (uid {uid})"),
            Self::CircuitBreaker => f.write_str("by the circuit breaker of an earlier version"),
            Self::Unconfirmed => f.write_str("because enforcing was not confirmed in time"),
        }
    }
}

/// The mode with its cause and time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModeState {
    /// The mode in force.
    pub mode: Mode,
    /// The cause.
    pub cause: ModeCause,
    /// When it was set.
    pub since: Timestamp,
    /// The value of `response.mode` when it was set.
    pub configured: Mode,
    /// When it falls back to dry run unless it is confirmed, by the monotonic clock.
    pub deadline: Option<Duration>,
}

impl ModeState {
    /// The configured mode.
    pub fn configured(mode: Mode, now: Now) -> Self {
        Self { mode, cause: ModeCause::Configuration, since: now.wall, configured: mode, deadline: None }
    }

    /// The time that is left to confirm.
    pub fn left(&self, now: Now) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(now.at))
    }

    /// How long the kernel keeps a ban of this duration (none: without an end). Until enforcing is confirmed, that is
    /// at most the time left to confirm, so that nobody stays locked out if the agent dies.
    pub fn kept(&self, lasts: Option<Duration>, now: Now) -> Option<Duration> {
        match (lasts, self.left(now)) {
            (Some(lasts), Some(confirm)) => Some(lasts.min(confirm)),
            (lasts, None) => lasts,
            (None, confirm) => confirm,
        }
    }
}
