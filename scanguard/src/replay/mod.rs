//! `scanguard replay`: sends captures through the same pipeline as live traffic, by the packets' own time.
//!
//! ```text
//! capture -> frame -> sensor (in software, or the program by BPF_PROG_TEST_RUN) -> pipeline
//! ```
//! Memory is bounded however long a capture is: tables have the limits of the configuration, and a packet has that of
//! [`capture`].

pub mod capture;
pub mod clock;
pub mod driver;
pub mod frame;
pub mod summary;

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use ipnet::IpNet;
use scanguard_common::{address::Address, parse::addresses};

use self::{
    capture::{Capture, CaptureError},
    driver::Driver,
    frame::Frames,
    summary::Summary,
};
use crate::{
    apply,
    config::Config,
    content::salt::Salt,
    detect::findings::Event,
    export::writer::FindingsWriter,
    sensor::{Feed, SensorError},
};

/// A replay, over one capture after the other.
pub struct Replay<S, W> {
    driver: Driver<S>,
    frames: Frames,
    local: Vec<IpNet>,
    teller: Teller<W>,
}

/// The output of findings.
struct Teller<W> {
    writer: FindingsWriter<W>,
    summary: Summary,
    error: Option<std::io::Error>,
}

/// A replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A capture could not be read to its end. The packets before that count, and the next capture may be read.
    #[error("{}{error}", after(*.packets))]
    Capture {
        /// Packets of this capture that were read.
        packets: u64,
        /// The error.
        error: CaptureError,
    },
    /// The sensor failed.
    #[error(transparent)]
    Sensor(#[from] SensorError),
    /// Findings could not be written.
    #[error("the findings cannot be written")]
    Output(#[from] std::io::Error),
}

fn after(packets: u64) -> String {
    if packets == 0 { String::new() } else { format!("after packet {packets}: ") }
}

impl<S: Feed, W: Write> Replay<S, W> {
    /// Findings go to `writer`. Only packets to `local` are examined, and the answers from there; if `local` is empty,
    /// all packets are. The same `salt` gives the same estimates.
    ///
    /// # Errors
    /// The sensor could not be given our addresses.
    pub fn new(
        config: &Config,
        salt: u64,
        mut sensor: S,
        local: Vec<IpNet>,
        writer: FindingsWriter<W>,
    ) -> Result<Self, SensorError> {
        sensor.set_home(&local)?;
        let (mut pipeline, _) = apply::pipeline(config);
        pipeline.detector.set_salt(Salt(salt));
        Ok(Self {
            driver: Driver::new(sensor, pipeline, config.sensor.poll_interval),
            frames: Frames::default(),
            local,
            teller: Teller {
                writer,
                summary: Summary::new(config.sensor.sources(), config.sensor.max_sources),
                error: None,
            },
        })
    }

    /// Reads a capture to its end, or until `stop` is set.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn capture(&mut self, reader: impl Read, stop: &AtomicBool) -> Result<(), ReplayError> {
        let mut packets = 0;
        let cut_short = |packets| move |error| ReplayError::Capture { packets, error };
        let mut capture = Capture::open(reader).map_err(cut_short(packets))?;
        while !stop.load(Ordering::Relaxed) {
            let Some(packet) = capture.next_packet().map_err(cut_short(packets))? else {
                break;
            };
            packets += 1;
            self.packet(&packet)?;
        }
        Ok(())
    }

    fn packet(&mut self, packet: &capture::Packet<'_>) -> Result<(), ReplayError> {
        let Self { driver, frames, local, teller } = self;
        teller.summary.packets += 1;
        let Some(frame) = frames.frame(packet) else {
            teller.summary.too_short += 1;
            driver.pass(packet.time, &mut |event| teller.tell(&event))?;
            return teller.error.take().map_or(Ok(()), |error| Err(error.into()));
        };
        match way(frame.bytes, local) {
            Way::Inbound => {
                driver.packet(packet.time, frame, &mut |event| teller.tell(&event))?;
                teller.summary.saw(frame.bytes, packet.time);
            }
            Way::Leaving => {
                teller.summary.not_ours += 1;
                driver.pass(packet.time, &mut |event| teller.tell(&event))?;
                driver.leaving(frame, &mut |event| teller.tell(&event))?;
            }
            Way::Elsewhere => {
                teller.summary.not_ours += 1;
                driver.pass(packet.time, &mut |event| teller.tell(&event))?;
            }
        }
        teller.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Closes all findings and writes the summary.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn finish(self, summary: &mut dyn Write) -> Result<(), ReplayError> {
        let Self { driver, mut teller, .. } = self;
        let ended = driver.finish(&mut |event| teller.tell(&event))?;
        if let Some(error) = teller.error {
            return Err(error.into());
        }
        Ok(teller.summary.write(&ended, summary)?)
    }
}

impl<W: Write> Teller<W> {
    fn tell(&mut self, event: &Event) {
        self.summary.count(event);
        // The first failure ends the replay.
        if self.error.is_none() {
            self.error = self.writer.write(event).err();
        }
    }
}

/// The direction of a packet.
enum Way {
    /// To one of our addresses.
    Inbound,
    /// From one of our addresses to another.
    Leaving,
    /// Between other addresses.
    Elsewhere,
}

/// If no addresses are given as ours, all are.
fn way(frame: &[u8], local: &[IpNet]) -> Way {
    let is_ours = |address: Address| {
        let ip = address.to_ip();
        local.iter().any(|network| network.contains(&ip))
    };
    match addresses(&frame) {
        _ if local.is_empty() => Way::Inbound,
        Some((_, destination)) if is_ours(destination) => Way::Inbound,
        Some((source, _)) if is_ours(source) => Way::Leaving,
        _ => Way::Elsewhere,
    }
}
