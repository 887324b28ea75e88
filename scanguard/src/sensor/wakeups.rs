//! The program's wake-ups: sources that the agent should look at before its next poll, from a ring buffer.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use scanguard_common::{
    abi::{self, Wakeup},
    address::Address,
};
use tokio::io::{Interest, unix::AsyncFd};
use zerocopy::FromBytes as _;

use super::SensorError;

/// The reading end of the ring buffer.
pub struct Wakeups {
    ring: AsyncFd<RingBuf<MapData>>,
}

/// The wake-ups since the last read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The sources, each once. The time is that of the first packet of its wake-ups, by the kernel's monotonic clock.
    pub sources: Vec<(Address, Duration)>,
}

/// How many wake-ups are read at once, so that a flood of them does not keep the agent from its other work.
const MOST: usize = 4096;

impl Wakeups {
    /// Takes the ring buffer out of the loaded program.
    ///
    /// # Errors
    /// It is not there, or cannot be waited for.
    pub fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map = ebpf.take_map(abi::TRIPS).ok_or_else(|| super::missing(abi::TRIPS))?;
        let ring = RingBuf::try_from(map).map_err(|error| SensorError::Map { map: abi::TRIPS, error })?;
        // SAFETY: the ring buffer owns its descriptor, which stays the same and open until it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(|error| SensorError::Call {
            call: "waiting for",
            map: abi::TRIPS,
            error: error.into(),
        })?;
        Ok(Self { ring })
    }

    /// Waits for wake-ups and reads them.
    ///
    /// # Errors
    /// The ring buffer cannot be waited for.
    pub async fn next(&mut self) -> Result<Batch, SensorError> {
        let mut ready = self.ring.readable_mut().await.map_err(|error| SensorError::Call {
            call: "waiting for",
            map: abi::TRIPS,
            error,
        })?;
        let ring = ready.get_inner_mut();
        let mut batch = Batch::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..MOST {
            let Some(item) = ring.next() else {
                ready.clear_ready();
                break;
            };
            if let Ok((wakeup, _)) = Wakeup::read_from_prefix(&item)
                && seen.insert(wakeup.source)
            {
                batch.sources.push((wakeup.source, Duration::from_nanos(wakeup.time_ns)));
            }
        }
        Ok(batch)
    }
}
