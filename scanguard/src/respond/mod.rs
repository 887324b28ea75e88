//! Turns findings and orders into bans.
//!
//! ```text
//! finding, feed, order, CrowdSec, fleet -> policy (pure) -> ban table -> enforcer (the kernel's maps)
//! ```
//! [`policy`] decides and gives the reason; [`ban_table`] remembers the bans. Only [`responder`] has effects, through
//! the small trait [`enforcer::Enforcer`]. Time is passed in.

mod adopt;
pub mod allow;
pub mod allowed_networks;
pub mod ban_table;
pub mod breaker;
pub mod cause;
pub mod covering;
pub mod decided;
pub mod enforcer;
pub mod feed;
mod holds;
pub mod host_discovery;
mod kernel_bans;
pub mod metrics;
mod mode;
pub mod orders;
pub mod outbound;
pub mod policy;
#[cfg(test)]
mod policy_properties;
pub mod questions;
pub mod refusal;
pub mod released;
pub mod report;
pub mod responder;
pub mod settings;
mod snapshot;
pub mod sockets;
pub mod ssh;
pub mod ssh_servers;
pub mod state;
pub mod state_writer;
#[cfg(test)]
mod testing;
mod unsaved;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::mode::{ModeCause, ModeState};
pub use crate::sensor::gate::Extent;
use crate::sensor::gate::GateMode;

/// The shortest ban.
pub const SHORTEST_BAN: Duration = Duration::from_secs(1);
/// The longest ban with an end: a user who asks for more than ten years means a ban without an end.
pub const LONGEST_BAN: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The response to sources that scan.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Observe,
    /// Everything but the drop: what would be dropped is counted.
    DryRun,
    /// Packets of banned sources are dropped.
    Enforce,
}

impl Mode {
    /// All, from the mildest on.
    pub const ALL: [Self; 3] = [Self::Observe, Self::DryRun, Self::Enforce];

    /// The name in configuration, output and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::DryRun => "dry-run",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of the kernel gate for this mode.
    pub const fn gate(self) -> GateMode {
        match self {
            Self::Observe => GateMode::Off,
            Self::DryRun => GateMode::DryRun,
            Self::Enforce => GateMode::Enforce,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.label())
    }
}
