//! One poll from end to end: sensor, observer, detector. The same for live traffic and tests.

use scanguard_common::{address::Address, outcome::Exit, tally::Tally};

use crate::{
    clock::Now,
    content::ContentEvent,
    detect::{Detector, findings::Event, flood::Arrived},
    observe::Observer,
    sensor::{Poll, Sensor, SensorError, TurnedAway},
};

/// The pure parts with what they remember.
pub struct Pipeline {
    /// Histories.
    pub observer: Observer,
    /// Rules and findings.
    pub detector: Detector,
    tally: Tally,
    /// Entries that the agent had the kernel forget.
    removed: u64,
    evicted: u64,
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// As the sensor gave it.
    pub poll: Poll,
    /// What the totals grew by since the last poll.
    pub delta: Tally,
    /// Sources that the kernel evicted since the last poll.
    pub evicted: u64,
}

impl Pipeline {
    /// Nothing seen yet.
    pub fn new(observer: Observer, detector: Detector) -> Self {
        Self { observer, detector, tally: Tally::ZERO, removed: 0, evicted: 0 }
    }

    /// Goes on with totals that an agent before this one has read in part: evictions are counted from here on, the
    /// totals themselves from where they began.
    pub fn resume(&mut self, poll: &Poll) {
        self.evicted = poll.tally.inserted.saturating_sub(poll.entries);
    }

    /// The totals as they were read last.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Looks at one source now, since the sensor told of it.
    ///
    /// # Errors
    /// The sensor could not be read; the next poll makes up for it.
    pub fn look(
        &mut self,
        sensor: &mut dyn Sensor,
        source: &Address,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SensorError> {
        let Some((state, epoch)) = sensor.look(source)? else {
            return Ok(());
        };
        if let Some((delta, history)) = self.observer.see(source, &state, epoch, now.at) {
            self.detector.see(*source, &delta, history, now, tell);
        }
        Ok(())
    }

    /// Takes what a client said or was answered; hands on what is to be told.
    pub fn hear(&mut self, utterance: &ContentEvent, now: Now, tell: &mut dyn FnMut(Event)) {
        let history = self.observer.history(&utterance.source);
        self.detector.hear(utterance, history, now, tell);
    }

    /// Reads the sensor and hands on what is to be told.
    ///
    /// # Errors
    /// The sensor could not be read. What it gave before is used; the next poll makes up for the rest.
    pub fn poll(
        &mut self,
        sensor: &mut dyn Sensor,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Outcome, SensorError> {
        let Self { observer, detector, .. } = self;
        let poll = sensor.poll(&mut |source, state, ended_epoch| {
            if let Some((delta, history)) = observer.see(source, state, ended_epoch, now.at) {
                detector.see(*source, &delta, history, now, tell);
            }
        })?;
        // What the observer forgets, the kernel must forget too, or it would be counted again.
        self.removed += observer.expire(now.at, |source| sensor.forget(source))?;
        let delta = poll.tally.since(&self.tally);
        self.tally = poll.tally;
        let turned_away = match delta.exit(Exit::AtTheDoor) {
            0 => TurnedAway::default(),
            _ => sensor.turned_away()?,
        };
        let arrived = Arrived {
            delta: &delta,
            samples: &turned_away.samples,
            sees_handshakes: sensor.sees_handshakes(),
        };
        detector.see_all(arrived, now, tell);
        detector.tick(now, tell);
        // The kernel says what it inserted and what there is, but not what it evicted.
        let gone = poll.tally.inserted.saturating_sub(poll.entries + self.removed);
        let evicted = gone.saturating_sub(self.evicted);
        self.evicted += evicted;
        Ok(Outcome { poll, delta, evicted })
    }
}
