//! `scanguard replay`: sends captures through the same pipeline as live traffic, by the packets' own time.
//!
//! ```text
//! capture -> frame -> talks -> sensor (in software, or the program by BPF_PROG_TEST_RUN) -> pipeline
//! ```
//! A capture has no sockets that could be asked. It shows instead who began a flow and what was answered, which
//! [`talks`] finds out before a sensor gets the packet. So it is the same for every sensor.
//!
//! Memory is bounded however long a capture is: tables have the limits of the configuration, and a packet has that of
//! [`capture`].

pub mod capture;
pub mod clock;
pub mod driver;
pub mod flows;
pub mod frame;
pub mod handshake;
pub mod silence;
pub mod step;
pub mod strays;
pub mod summary;
pub mod talks;

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use ipnet::IpNet;

use self::{
    capture::{Capture, CaptureError},
    driver::Driver,
    frame::{Frame, Frames},
    summary::Summary,
    talks::{Answers, Freed, Ruling, Talks, Way},
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
    talks: Talks,
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
    /// all packets are, and answers are those in flows that the other side began. The same `salt` gives the same
    /// estimates. Until an answer comes, the capture counts as one that does not show them.
    ///
    /// # Errors
    /// The sensor could not be given our addresses.
    pub fn new(
        config: &Config,
        salt: u64,
        mut sensor: S,
        local: Vec<IpNet>,
        mut writer: FindingsWriter<W>,
    ) -> Result<Self, SensorError> {
        sensor.set_home(&local)?;
        sensor.set_sees_leaving(false)?;
        writer.set_one_direction(true);
        let (mut pipeline, _) = apply::pipeline(config);
        pipeline.detector.set_salt(Salt(salt));
        pipeline.detector.set_sketch_salt(salt);
        pipeline.detector.reads_captures();
        Ok(Self {
            driver: Driver::new(sensor, pipeline, config.sensor.poll_interval),
            frames: Frames::default(),
            talks: Talks::new(local, salt),
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

    /// It is known that the captures show so much of answers, see [`talks::answers`].
    ///
    /// # Errors
    /// The sensor could not be told.
    pub fn assume(&mut self, answers: Answers) -> Result<(), SensorError> {
        self.talks.assume(answers);
        show(&mut self.driver, &mut self.teller, self.talks.answers())
    }

    fn packet(&mut self, packet: &capture::Packet<'_>) -> Result<(), ReplayError> {
        let Self { driver, frames, talks, teller } = self;
        teller.summary.packets += 1;
        let answers = talks.answers();
        // These come before the time of this packet.
        while let Some(held) = talks.overdue(packet.time.max(driver.time())) {
            free(driver, teller, &held)?;
        }
        driver.pass(packet.time, &mut |event| teller.tell(&event))?;
        let Some(frame) = frames.frame(packet) else {
            teller.summary.too_short += 1;
            return teller.result();
        };
        let Ruling { freed, way, met } = talks.see(frame, driver.time());
        if talks.answers() != answers {
            show(driver, teller, talks.answers())?;
        }
        if let Some(freed) = freed {
            free(driver, teller, &freed)?;
        }
        if let Some(flow) = met {
            let answer = handshake::answer(&flow);
            driver.leaving(Frame { bytes: &answer, captured: answer.len() }, &mut |event| {
                teller.tell(&event);
            })?;
        }
        match way {
            Way::Inbound => {
                driver.packet(None, frame, &mut |event| teller.tell(&event))?;
                teller.summary.saw(frame.bytes, driver.time());
            }
            Way::Leaving => {
                teller.summary.left(talks.knows_our_addresses());
                driver.leaving(frame, &mut |event| teller.tell(&event))?;
            }
            Way::Elsewhere => teller.summary.not_ours += 1,
            Way::Held => {}
        }
        teller.result()
    }

    /// Closes all findings and writes the summary.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn finish(self, summary: &mut dyn Write) -> Result<(), ReplayError> {
        let Self { mut driver, mut talks, mut teller, .. } = self;
        while let Some(held) = talks.last() {
            free(&mut driver, &mut teller, &held)?;
        }
        teller.summary.talks = Some(summary::Talks {
            answers: talks.answers(),
            forgotten: talks.forgotten(),
            given_up: talks.given_up(),
        });
        let ended = driver.finish(&mut |event| teller.tell(&event))?;
        if let Some(error) = teller.error {
            return Err(error.into());
        }
        Ok(teller.summary.write(&ended, summary)?)
    }
}

/// From now on the capture shows so much of answers.
fn show<S: Feed, W: Write>(
    driver: &mut Driver<S>,
    teller: &mut Teller<W>,
    answers: Answers,
) -> Result<(), SensorError> {
    teller.writer.set_one_direction(answers != Answers::Seen);
    driver.set_sees_leaving(answers != Answers::Hidden)
}

/// Passes a packet on that was held until now.
fn free<S: Feed, W: Write>(
    driver: &mut Driver<S>,
    teller: &mut Teller<W>,
    freed: &Freed,
) -> Result<(), ReplayError> {
    let (Freed::Unknown(held) | Freed::Refused(held) | Freed::Unanswered(held)) = freed;
    let (frame, time) = (held.frame(), driver.time());
    for _ in 0..held.times() {
        let tell = &mut |event: Event| teller.tell(&event);
        match freed {
            Freed::Unknown(_) => driver.packet(None, frame, tell)?,
            Freed::Refused(_) => driver.refused(frame, tell)?,
            Freed::Unanswered(_) => driver.unanswered(frame, tell)?,
        }
        match freed {
            Freed::Refused(_) => teller.summary.saw_refused(frame.bytes, time),
            Freed::Unknown(_) | Freed::Unanswered(_) => teller.summary.saw(frame.bytes, time),
        }
    }
    teller.result()
}

impl<W: Write> Teller<W> {
    /// The first failure so far.
    fn result(&mut self) -> Result<(), ReplayError> {
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn tell(&mut self, event: &Event) {
        self.summary.count(event);
        // The first failure ends the replay.
        if self.error.is_none() {
            self.error = self.writer.write(event).err();
        }
    }
}
