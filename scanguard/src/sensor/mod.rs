//! The kernel side as the agent sees it: the only code that knows aya.
//!
//! [`Sensor`] is the seam: the live one ([`kernel::KernelSensor`]) reads the maps of the loaded program.
//! [`Feed`] is a sensor that is handed its packets: [`software::SoftwareSensor`] counts them itself, by the
//! code that the program shares with it; [`test_run::TestRunSensor`] has the loaded program count them.

pub mod attach;
pub mod btf;
mod census;
mod changes;
pub mod connections;
pub mod egress;
pub mod features;
pub mod footprint;
pub mod frags;
pub mod gate;
pub mod home;
pub mod kernel;
pub mod kernel_log;
pub mod least;
mod links;
pub mod metrics;
mod object;
pub mod owner;
pub mod pins;
pub mod program;
mod reason;
mod sampler;
pub mod samples;
pub mod settings;
pub mod software;
mod sys;
pub mod test_run;
mod trie;
pub mod trips;

use ipnet::IpNet;
use scanguard_common::{
    account::{self, SourceState},
    address::Address,
    numbered,
    tally::Tally,
};

use crate::content::sample::Sample;

/// CPUs that packets may come by now. Not those that this process may use: it may be held to a few of many.
///
/// # Errors
/// The kernel does not say.
pub fn online_cpus() -> std::io::Result<usize> {
    aya::util::online_cpus().map(|cpus| cpus.len()).map_err(|(_, error)| error)
}

/// What a poll found beyond the sources that it handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Poll {
    /// Exact totals since the program was loaded.
    pub tally: Tally,
    /// Entries in the table of sources.
    pub entries: u64,
    /// Whether the whole table was read, rather than what has changed in it.
    pub whole: Option<Whole>,
}

numbered! {
    /// Why the whole table of sources was read.
    Whole {
        /// An agent before this one used the table: what it has read is not known.
        Takeover = "takeover",
        /// So many sources did something that the list of them was overwritten before it was read.
        Overflow = "overflow",
    }
}

/// How full the maps are that hold evidence of who answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Occupancy {
    /// Routed addresses from which somebody answered.
    pub live: u64,
    /// Services without a socket here that answered.
    pub published: u64,
}

/// What those probed whom the doorkeeper did not let into the table, see `scanguard_common::door`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TurnedAway {
    /// Probes since the program was loaded.
    pub count: u64,
    /// Some of the last of them, a few for each CPU.
    pub samples: Vec<account::Sample>,
}

/// Takes a source, its state, and the epoch from which on its distinct things are new: the one that was just ended and is
/// whole, or an earlier one where nobody looked for long.
pub type Visit<'v> = dyn FnMut(&Address, &SourceState, u32) + 'v;

/// Where counts come from.
pub trait Sensor {
    /// Ends the running epoch and hands on every source of which something was counted in it, some of them more than
    /// once, with its state and the epoch from which on its distinct things are new.
    ///
    /// # Errors
    /// A map could not be read. What was handed on until then stays valid: states are totals, not
    /// deltas, so that the next poll makes up for it.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError>;

    /// The state of one source as it is now, if it is in the table, with the epoch from which on its distinct things are new.
    ///
    /// # Errors
    /// The map could not be read.
    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError>;

    /// Removes a source from the table and returns its final state, if it was still there.
    ///
    /// # Errors
    /// The map could not be changed.
    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError>;

    /// What those probed whom the doorkeeper turned away.
    ///
    /// # Errors
    /// The map could not be read.
    fn turned_away(&mut self) -> Result<TurnedAway, SensorError>;

    /// Whether it has sockets to ask, so that a handshake that was completed is seen.
    fn sees_handshakes(&self) -> bool;
}

/// A map is not in the object, or not of the kind that it should be.
fn missing(map: &'static str) -> SensorError {
    SensorError::Map { map, error: aya::maps::MapError::InvalidMapType { map_type: 0 } }
}

/// A sensor that is handed its packets, rather than attached to where they arrive.
pub trait Feed: Sensor {
    /// Counts a frame, Ethernet header first, whose length is within [`FRAME_LENGTHS`].
    ///
    /// # Errors
    /// It could not be counted: there was no memory, or its length is another.
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// Notes what a frame that leaves says of those who asked. Its length is within [`FRAME_LENGTHS`].
    ///
    /// # Errors
    /// As [`Self::feed`].
    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// What was sampled of the frames since it was asked last, the oldest first.
    fn samples(&mut self) -> Vec<Sample<Vec<u8>>>;

    /// Takes which addresses are ours. A host behind a capture may always publish ports for others: one
    /// without a socket is unknown.
    ///
    /// # Errors
    /// They could not be told to the program.
    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError>;
}

/// What every [`Feed`] takes, in bytes. BPF_PROG_TEST_RUN wants a whole Ethernet header (`ETH_HLEN`), as do
/// drivers. Beyond the longest IP packet with its Ethernet header and two tags, nothing is looked at.
pub const FRAME_LENGTHS: std::ops::RangeInclusive<usize> = 14..=22 + 40 + 65_535;

/// The running program or its maps could not be used.
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
    /// The program could not be run on a frame.
    #[error("BPF_PROG_TEST_RUN on a frame of {length} bytes: {error}")]
    Run {
        /// Its length.
        length: usize,
        /// Why.
        error: std::io::Error,
    },
    /// The program is not there or not loaded.
    #[error("the program: {error}")]
    Program {
        /// Why.
        error: aya::programs::ProgramError,
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
