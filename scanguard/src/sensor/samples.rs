//! The samples of requests and answers that the program copies, from a ring buffer.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use scanguard_common::{
    abi::{self, SampleHeader},
    content::Begins,
};
use tokio::io::{Interest, unix::AsyncFd};
use zerocopy::FromBytes as _;

use super::SensorError;
use crate::content::{
    Service,
    sample::{Place, Sample},
};

/// The reading end of the ring buffer.
pub struct SampleRing(RingBuf<MapData>);

impl SampleRing {
    /// Takes the ring buffer out of the loaded program.
    ///
    /// # Errors
    /// It is not there.
    pub fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let map = ebpf.take_map(abi::SAMPLES).ok_or_else(|| super::missing(abi::SAMPLES))?;
        RingBuf::try_from(map).map(Self).map_err(|error| SensorError::Map { map: abi::SAMPLES, error })
    }
}

/// The samples that were not read yet, the oldest first. The iterator continues when there are new ones.
impl Iterator for SampleRing {
    type Item = Sample<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // A sample that does not parse would come from another program, which the contract's version rules out.
            if let Some(sample) = parse(&self.0.next()?) {
                return Some(sample);
            }
        }
    }
}

impl AsRawFd for SampleRing {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Parses a sample of the program.
fn parse(item: &[u8]) -> Option<Sample<Vec<u8>>> {
    let (header, bytes) = SampleHeader::read_from_prefix(item).ok()?;
    sample(&header, bytes)
}

/// A sample, from its parts.
pub(super) fn sample(header: &SampleHeader, bytes: &[u8]) -> Option<Sample<Vec<u8>>> {
    Some(Sample {
        source: header.source,
        service: Service::Endpoint { ip: header.host.to_ip(), port: header.port, protocol: header.protocol },
        client_port: header.client_port,
        begins: Begins::from_index(header.begins)?,
        owned: header.owned != 0,
        place: Place { position: header.position, len: header.len, ends_head: header.ends_head != 0 },
        bytes: bytes.to_owned(),
    })
}

/// How many samples are read at once, so that a flood of them does not keep the agent from its other work.
const MOST: usize = 1024;

/// Waits for samples.
pub struct Samples {
    ring: AsyncFd<SampleRing>,
}

impl Samples {
    /// Takes the ring buffer out of the loaded program.
    ///
    /// # Errors
    /// It is not there, or cannot be waited for.
    pub fn new(ebpf: &mut aya::Ebpf) -> Result<Self, SensorError> {
        let ring = SampleRing::new(ebpf)?;
        // SAFETY: the ring buffer owns its descriptor, which stays the same and open until it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(|error| SensorError::Call {
            call: "waiting for",
            map: abi::SAMPLES,
            error: error.into(),
        })?;
        Ok(Self { ring })
    }

    /// Drops the waiting samples, because nobody knows how old they are. The budgets stand still meanwhile, which
    /// bounds their number.
    pub fn drop_old(&mut self) {
        let dropped = self.ring.get_mut().by_ref().count();
        tracing::info!("{dropped} samples that were taken while no agent ran are not looked at");
    }

    /// Waits for samples and reads them, the oldest first. The program counts those that found no room.
    ///
    /// # Errors
    /// The ring buffer cannot be waited for.
    pub async fn next(&mut self) -> Result<Vec<Sample<Vec<u8>>>, SensorError> {
        let mut ready = self.ring.readable_mut().await.map_err(|error| SensorError::Call {
            call: "waiting for",
            map: abi::SAMPLES,
            error,
        })?;
        let ring = ready.get_inner_mut();
        let mut samples = Vec::new();
        while samples.len() < MOST {
            let Some(sample) = ring.next() else {
                ready.clear_ready();
                break;
            };
            samples.push(sample);
        }
        Ok(samples)
    }
}
