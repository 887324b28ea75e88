//! The kernel side, as the agent uses it: the only code that knows aya.
//!
//! [`Sensor`] is the seam: the live one ([`kernel::KernelSensor`]) reads the maps of the loaded program. [`Feed`] is a
//! sensor whose caller gives it packets. [`software::SoftwareSensor`] counts them itself, by the code that it shares
//! with the program. [`test_run::TestRunSensor`] lets the loaded program count them.

pub mod attach;
pub mod btf;
pub mod build;
mod census;
mod changes;
pub mod choice;
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
mod macs;
pub mod metrics;
pub mod not_ip;
mod object;
pub mod outbound;
pub mod owner;
pub mod pins;
pub mod program;
mod reason;
mod sampler;
pub mod samples;
pub mod settings;
pub mod software;
mod sys;
mod tcx;
pub mod test_run;
mod translators;
mod trie;
pub mod unwatched;
pub mod wakeups;

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use scanguard_common::{
    account::{self, SourceState},
    actor::Identity,
    address::Address,
    numbered,
    tally::Tally,
};

use crate::content::sample::Sample;

/// How many CPUs may process packets now. This is not how many this process may use: it may be limited to a few.
///
/// # Errors
/// The kernel does not say.
pub fn online_cpus() -> std::io::Result<usize> {
    aya::util::online_cpus().map(|cpus| cpus.len()).map_err(|(_, error)| error)
}

/// The result of a poll, beside the sources that it passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Poll {
    /// Exact totals since the program was loaded.
    pub tally: Tally,
    /// Entries in the table of sources.
    pub entries: u64,
    /// Whether the poll read the whole table, rather than only what has changed.
    pub whole: Option<Whole>,
}

numbered! {
    /// Why a poll read the whole table of sources.
    Whole {
        /// An earlier agent used the table: nobody knows what it has read.
        Takeover = "takeover",
        /// So many sources did something that their list was overwritten before it was read.
        Overflow = "overflow",
    }
}

/// How full the maps with notes of answers are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Occupancy {
    /// Routed addresses that answered.
    pub live: u64,
    /// Services without a socket here that answered.
    pub published: u64,
}

/// Targets of the sources that were not admitted to the table, see `scanguard_common::admission`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TurnedAway {
    /// Probes since the program was loaded.
    pub count: u64,
    /// Some of the last of them, a few for each CPU.
    pub samples: Vec<account::Sample>,
}

/// Takes a source, its state, and the first epoch whose distinct things are new. This is the epoch that just ended and
/// is whole, or an earlier one after a long time without polls.
pub type Visit<'v> = dyn FnMut(&Address, &SourceState, u32) + 'v;

/// A source of counts.
pub trait Sensor {
    /// Ends the running epoch, and passes on every source with something counted in it. It may pass on a source more
    /// than once. Each comes with its state and the first epoch whose distinct things are new.
    ///
    /// # Errors
    /// A map could not be read. The sources that were passed on until then stay valid: states are totals, not deltas,
    /// so that the next poll makes up for it.
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError>;

    /// The present state of one source, if it is in the table, with the first epoch whose distinct things are new.
    ///
    /// # Errors
    /// The map could not be read.
    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError>;

    /// Removes a source from the table. Returns its final state, if it was still there.
    ///
    /// # Errors
    /// The map could not be changed.
    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError>;

    /// The targets of the sources that were not admitted.
    ///
    /// # Errors
    /// The map could not be read.
    fn turned_away(&mut self) -> Result<TurnedAway, SensorError>;

    /// Whether this sensor can ask sockets, so that it sees completed handshakes.
    fn sees_handshakes(&self) -> bool;

    /// Whether this sensor sees what leaves, so that it knows which probes were answered.
    fn sees_leaving(&self) -> bool;

    /// Says whether the answers to probes are really seen, see [`crate::observe::answers`].
    ///
    /// # Errors
    /// The program could not be told.
    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError>;
}

/// A source of counts of actors: of those on this host, or behind it, who ask others.
pub trait ActorSensor: Sensor {
    /// The process that was last seen to act as this actor, if it is still known.
    fn identity(&mut self, actor: &Address) -> Option<Identity>;

    /// The actors that opened a raw or packet socket since the last call.
    fn openers(&mut self) -> Vec<Address> {
        Vec::new()
    }

    /// Exact numbers of what was looked at until the last poll, if this sensor counts it.
    fn looked_at(&self) -> Option<scanguard_common::actor::Tally> {
        None
    }

    /// How many changes of state of connections the kernel did not show: the program was running already on that CPU.
    fn missed(&self) -> u64 {
        0
    }

    /// Sets the interfaces, by their numbers, behind which there are hosts that are actors.
    ///
    /// # Errors
    /// The program could not be told.
    fn set_inner(&mut self, _interfaces: &BTreeSet<u32>) -> Result<(), SensorError> {
        Ok(())
    }

    /// Sets the networks that are known here: special-purpose addresses in these lead somewhere.
    ///
    /// # Errors
    /// The program could not be told.
    fn set_near(&mut self, _near: &[IpNet]) -> Result<(), SensorError> {
        Ok(())
    }

    /// The networks that called an actor at a port of a network namespace in the last one to two hours, if its own program
    /// listens there; of a control group, if a program in it does.
    ///
    /// # Errors
    /// It could not be read.
    fn callers(&mut self, _actor: &Address, _namespace: u32, _port: u16) -> Result<u64, SensorError> {
        Ok(0)
    }

    /// Sets what becomes of what blocked actors ask for.
    ///
    /// # Errors
    /// The program could not be told.
    fn set_mode(&mut self, _mode: gate::GateMode) -> Result<(), SensorError> {
        Ok(())
    }

    /// Refuses what an actor asks for from now on, for this long, or ends that. Returns whether this sensor can.
    ///
    /// # Errors
    /// The program could not be told.
    fn block(&mut self, _actor: &Address, _lasts: Option<Duration>) -> Result<bool, SensorError> {
        Ok(false)
    }
}

/// A map is missing in the object, or has the wrong kind.
fn missing(map: &'static str) -> SensorError {
    SensorError::Map { map, error: aya::maps::MapError::InvalidMapType { map_type: 0 } }
}

/// A sensor whose caller gives it packets. It is not attached to an interface.
pub trait Feed: Sensor {
    /// Counts a frame. It begins with its Ethernet header, and its length is within [`FRAME_LENGTHS`].
    ///
    /// # Errors
    /// It could not be counted: there was no memory, or the length is wrong.
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// Counts a frame of which is known that a RST was the answer to it, although it belongs to no connection: nothing is
    /// at its destination that wants it.
    ///
    /// # Errors
    /// As [`Self::feed`].
    fn feed_refused(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// Counts a frame that nobody has answered: as far as anybody can tell, nobody is at its destination.
    ///
    /// # Errors
    /// As [`Self::feed`].
    fn feed_unanswered(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// Notes what an outgoing frame answers. Its length is within [`FRAME_LENGTHS`].
    ///
    /// # Errors
    /// As [`Self::feed`].
    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError>;

    /// The samples of the frames since the last call, the oldest first.
    fn samples(&mut self) -> Vec<Sample<Vec<u8>>>;

    /// Sets which addresses are ours. A host behind a capture may always publish ports for others, so a port without a
    /// socket is unknown.
    ///
    /// # Errors
    /// The program could not be given the addresses.
    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError>;

    /// Sets whether what leaves is seen. Where it is not, a probe without an answer may have had one.
    ///
    /// # Errors
    /// The program could not be told.
    fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError>;
}

/// The frame lengths that every [`Feed`] takes, in bytes. BPF_PROG_TEST_RUN requires a whole Ethernet header
/// (`ETH_HLEN`), and so do drivers. The sensor looks at nothing beyond the longest IP packet with its Ethernet header
/// and two tags.
pub const FRAME_LENGTHS: std::ops::RangeInclusive<usize> = 14..=22 + 40 + 65_535;

/// The running program or its maps could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// A call of bpf(2) failed.
    #[error("{call} on the map {map}: {error}")]
    Call {
        /// The name of the call.
        call: &'static str,
        /// The name of the map.
        map: &'static str,
        /// The error.
        error: std::io::Error,
    },
    /// The program could not be run on a frame.
    #[error("BPF_PROG_TEST_RUN on a frame of {length} bytes: {error}")]
    Run {
        /// Its length.
        length: usize,
        /// The error.
        error: std::io::Error,
    },
    /// The program is missing or not loaded.
    #[error("the program: {error}")]
    Program {
        /// The reason.
        error: aya::programs::ProgramError,
    },
    /// aya could not use a map.
    #[error("the map {map}: {error}")]
    Map {
        /// The name of the map.
        map: &'static str,
        /// The error.
        error: aya::maps::MapError,
    },
}
