//! Totals that stay exact whatever happens to the table of sources.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::outcome::{EXITS, Exit, PROBE_CLASSES, ProbeClass};

/// One CPU's totals since the program was loaded; the agent adds the CPUs up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Tally {
    /// Packets by [`Exit`]. Their sum is the number of packets that the program saw.
    pub exits: [u64; EXITS],
    /// Probes by [`ProbeClass`], also those whose source found no room.
    pub probes: [u64; PROBE_CLASSES],
    /// Sources put into the table.
    pub inserted: u64,
    /// Times that the agent was told of a source at once.
    pub trips: u64,
    /// Times that there was no room to tell it; the next poll sees to it.
    pub trips_lost: u64,
}

impl Tally {
    /// Nothing counted.
    pub const ZERO: Self =
        Self { exits: [0; EXITS], probes: [0; PROBE_CLASSES], inserted: 0, trips: 0, trips_lost: 0 };

    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Self) {
        let Self { exits, probes, inserted, trips, trips_lost } = other;
        for (sum, part) in self.exits.iter_mut().zip(exits) {
            *sum = sum.wrapping_add(*part);
        }
        for (sum, part) in self.probes.iter_mut().zip(probes) {
            *sum = sum.wrapping_add(*part);
        }
        self.inserted = self.inserted.wrapping_add(*inserted);
        self.trips = self.trips.wrapping_add(*trips);
        self.trips_lost = self.trips_lost.wrapping_add(*trips_lost);
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = *self;
        for (new, old) in delta.exits.iter_mut().zip(&earlier.exits) {
            *new = new.wrapping_sub(*old);
        }
        for (new, old) in delta.probes.iter_mut().zip(&earlier.probes) {
            *new = new.wrapping_sub(*old);
        }
        delta.inserted = delta.inserted.wrapping_sub(earlier.inserted);
        delta.trips = delta.trips.wrapping_sub(earlier.trips);
        delta.trips_lost = delta.trips_lost.wrapping_sub(earlier.trips_lost);
        delta
    }

    /// Packets that left by `exit`.
    pub fn exit(&self, exit: Exit) -> u64 {
        self.exits[exit.index()]
    }

    /// Probes of `class`.
    pub fn probe(&self, class: ProbeClass) -> u64 {
        self.probes[class.index()]
    }

    /// All packets.
    pub fn packets(&self) -> u64 {
        self.exits.iter().sum()
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::ZERO
    }
}
