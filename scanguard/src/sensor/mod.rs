//! The kernel side as the agent sees it: the only code that knows aya.
//!
//! [`Sensor`] is the seam: the live one ([`kernel::KernelSensor`]) reads the maps of the loaded program;
//! tests put a table of packets behind it.

pub mod attach;
mod batch;
pub mod egress;
pub mod home;
pub mod kernel;
pub mod owner;
pub mod privileges;
pub mod program;
pub mod settings;

use scanguard_common::{account::SourceState, address::Address, tally::Tally};

/// What a poll found beyond the sources that it handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Poll {
    /// Exact totals since the program was loaded.
    pub tally: Tally,
    /// Entries in the table of sources.
    pub entries: u64,
}

/// How full the maps are that hold evidence of who answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Occupancy {
    /// Routed addresses from which somebody answered.
    pub live: u64,
    /// Services without a socket here that answered.
    pub published: u64,
}

/// Takes a source, its state, and the epoch that was just ended: distinct things of that are whole.
pub type Visit<'v> = dyn FnMut(&Address, &SourceState, u32) + 'v;

/// Where counts come from.
pub trait Sensor {
    /// Ends the running epoch and hands on every source that may have probed during it or just before,
    /// with its state and the number of that epoch.
    ///
    /// # Errors
    /// A map could not be read. What was handed on until then stays valid: states are totals, not
    /// deltas, so that the next poll makes up for it.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError>;

    /// Removes a source from the table and returns its final state, if it was still there.
    ///
    /// # Errors
    /// The map could not be changed.
    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError>;
}

/// The maps of the running program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// A call of bpf(2) failed.
    #[error("{call} on the map {map}: {error}")]
    Call {
        /// Which call.
        call: &'static str,
        /// Which map.
        map: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// aya could not use a map.
    #[error("the map {map}: {error}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Why.
        error: aya::maps::MapError,
    },
}
