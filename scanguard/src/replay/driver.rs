//! Polls a pipeline like the agent, by the time of the packets.

use std::time::Duration;

use jiff::Timestamp;

use super::{clock::PacketClock, frame::Frame};
use crate::{
    clock::Now,
    detect::findings::Event,
    pipeline::{Outcome, Pipeline},
    sensor::{Feed, SensorError},
};

/// A sensor that gets packets, and the pipeline that reads it.
pub struct Driver<S> {
    sensor: S,
    pipeline: Pipeline,
    interval: Duration,
    clock: PacketClock,
    /// How many poll intervals since the start were polled.
    ticks: u64,
    evicted: u64,
}

impl<S: Feed> Driver<S> {
    /// Polls `sensor` whenever `interval` of packet time has passed.
    pub fn new(sensor: S, pipeline: Pipeline, interval: Duration) -> Self {
        Self { sensor, pipeline, interval, clock: PacketClock::default(), ticks: 0, evicted: 0 }
    }

    /// Takes a packet with this time, after all polls before it.
    ///
    /// # Errors
    /// See [`Feed::feed`].
    pub fn packet(
        &mut self,
        time: Option<Timestamp>,
        frame: Frame<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SensorError> {
        self.pass(time, tell)?;
        self.sensor.feed(frame.bytes)?;
        self.hear(frame, tell);
        Ok(())
    }

    /// Takes a packet that was refused, at the present time.
    ///
    /// # Errors
    /// See [`Feed::feed_refused`].
    pub fn refused(&mut self, frame: Frame<'_>, tell: &mut dyn FnMut(Event)) -> Result<(), SensorError> {
        self.sensor.feed_refused(frame.bytes)?;
        self.hear(frame, tell);
        Ok(())
    }

    /// Takes a datagram that nobody has answered, at the present time.
    ///
    /// # Errors
    /// See [`Feed::feed_unanswered`].
    pub fn unanswered(&mut self, frame: Frame<'_>, tell: &mut dyn FnMut(Event)) -> Result<(), SensorError> {
        self.sensor.feed_unanswered(frame.bytes)?;
        self.hear(frame, tell);
        Ok(())
    }

    /// From now on the capture shows, or does not show, what leaves.
    ///
    /// # Errors
    /// See [`Feed::set_sees_leaving`].
    pub fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sensor.set_sees_leaving(sees)?;
        // The next poll would say so, too, but what comes until then counts as well.
        self.sensor.set_sees_answers(sees)
    }

    /// The present time.
    pub fn time(&self) -> Option<Timestamp> {
        self.clock.latest()
    }

    /// Takes an outgoing packet, at the present time.
    ///
    /// # Errors
    /// See [`Feed::feed_leaving`].
    pub fn leaving(&mut self, frame: Frame<'_>, tell: &mut dyn FnMut(Event)) -> Result<(), SensorError> {
        self.sensor.feed_leaving(frame.bytes)?;
        self.hear(frame, tell);
        Ok(())
    }

    fn hear(&mut self, frame: Frame<'_>, tell: &mut dyn FnMut(Event)) {
        let mut samples = self.sensor.samples();
        frame.trim(&mut samples);
        // A capture has no sockets: no sender is proven, whatever the kernel that runs the program would say.
        samples.iter_mut().for_each(|sample| sample.owned = false);
        let now = self.now(self.clock.elapsed());
        for utterance in self.pipeline.read(&samples, now) {
            self.pipeline.hear(&utterance, now, tell);
        }
    }

    /// Lets time pass until a packet that is not for the sensor.
    ///
    /// # Errors
    /// The sensor could not be read.
    pub fn pass(&mut self, time: Option<Timestamp>, tell: &mut dyn FnMut(Event)) -> Result<(), SensorError> {
        let due = ticks(self.clock.advance(time), self.interval);
        if due <= self.ticks {
            return Ok(());
        }
        self.poll_at(self.ticks + 1, tell)?;
        // Nothing is new until the last poll. The other polls would only close findings, and look once more at sources that
        // were not answered: only those that do are made.
        while let Some(at) = self.pipeline.next() {
            let tick = ticks_up(at, self.interval).max(self.ticks + 1);
            if tick >= due {
                break;
            }
            self.poll_at(tick, tell)?;
        }
        if due > self.ticks { self.poll_at(due, tell) } else { Ok(()) }
    }

    fn poll_at(&mut self, tick: u64, tell: &mut dyn FnMut(Event)) -> Result<(), SensorError> {
        self.ticks = tick;
        let at = Duration::from_nanos_u128(self.interval.as_nanos() * u128::from(tick));
        self.poll(at, tell).map(drop)
    }

    fn now(&self, at: Duration) -> Now {
        Now { at, wall: self.clock.wall(at) }
    }

    fn poll(&mut self, at: Duration, tell: &mut dyn FnMut(Event)) -> Result<Outcome, SensorError> {
        let now = self.now(at);
        let outcome = self.pipeline.poll(&mut self.sensor, now, tell)?;
        self.evicted += outcome.evicted;
        Ok(outcome)
    }

    /// The capture has ended: handles what came since the last poll, and closes all findings. What was not answered until
    /// then is not answered any more.
    ///
    /// # Errors
    /// The sensor could not be read.
    pub fn finish(mut self, tell: &mut dyn FnMut(Event)) -> Result<Ended, SensorError> {
        let mut at = self.clock.elapsed();
        let mut outcome = self.poll(at, tell)?;
        while let Some(due) = self.pipeline.unanswered() {
            at = at.max(due);
            outcome = self.poll(at, tell)?;
        }
        let now = self.now(at);
        self.pipeline.detector.close_all(now, tell);
        Ok(Ended {
            outcome,
            evicted: self.evicted,
            refused: self.pipeline.detector.tracker().refused(),
            clock: self.clock,
        })
    }
}

/// The rest of the report, at the end.
#[derive(Debug)]
pub struct Ended {
    /// The last poll. Its totals are those of the whole replay.
    pub outcome: Outcome,
    /// Sources for which the table had no room any more.
    pub evicted: u64,
    /// Findings for which there was no room.
    pub refused: u64,
    /// The time that has passed.
    pub clock: PacketClock,
}

/// How many whole intervals a time has.
fn ticks(at: Duration, interval: Duration) -> u64 {
    u64::try_from(at.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// As [`ticks`], including the last one that has begun.
fn ticks_up(at: Duration, interval: Duration) -> u64 {
    u64::try_from(at.as_nanos().div_ceil(interval.as_nanos().max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
