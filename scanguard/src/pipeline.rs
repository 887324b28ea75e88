//! One poll from end to end: sensor, observer, detector. Live traffic, captures and tests all use it.

pub mod outbound;

use std::time::Duration;

use scanguard_common::{address::Address, outcome::Exit, tally::Tally};

use crate::{
    clock::Now,
    content::{ContentEvent, sample::Sample, streams::Streams},
    detect::{Detector, findings::Event, flood::Arrived},
    observe::{Observer, overdue::Overdue, seen::Seen},
    sensor::{Poll, Sensor, SensorError, TurnedAway},
};

/// The pure parts, with their memory.
pub struct Pipeline {
    /// Histories.
    pub observer: Observer,
    /// Rules and findings.
    pub detector: Detector,
    /// The connections in which clients say something.
    pub streams: Streams,
    overdue: Overdue,
    /// What others are told, if anybody compares hosts.
    notes: Option<Notes>,
    tally: Tally,
    /// Entries that the agent told the kernel to remove.
    removed: u64,
    evicted: u64,
}

/// How far back the fate of a SYN is looked for: longer than a handshake may take.
const LATELY: Duration = Duration::from_secs(60);
/// How many notes are kept until they are taken. A host tells others much less.
const MAX_NOTES: usize = 4_096;

/// What sources asked for.
struct Notes {
    salt: u64,
    seen: Vec<Seen>,
    left_out: u64,
}

/// Notes something, if anybody wants it.
fn note(notes: &mut Option<Notes>, seen: impl FnOnce(u64) -> Option<Seen>) {
    let Some(notes) = notes else { return };
    let Some(seen) = seen(notes.salt) else { return };
    if notes.seen.len() < MAX_NOTES { notes.seen.push(seen) } else { notes.left_out += 1 }
}

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The totals as the sensor returned them.
    pub poll: Poll,
    /// The growth of the totals since the last poll.
    pub delta: Tally,
    /// Sources that the kernel evicted since the last poll.
    pub evicted: u64,
}

impl Pipeline {
    /// A pipeline without any history.
    pub fn new(observer: Observer, detector: Detector) -> Self {
        Self {
            observer,
            detector,
            streams: Streams::default(),
            overdue: Overdue::default(),
            notes: None,
            tally: Tally::ZERO,
            removed: 0,
            evicted: 0,
        }
    }

    /// Notes what sources ask for from now on, for those who compare hosts, or ends that. `salt` is that of the sensor's
    /// bitmaps.
    pub fn note_items(&mut self, salt: Option<u64>) {
        self.notes = salt.map(|salt| Notes { salt, seen: Vec::new(), left_out: 0 });
    }

    /// What was noted since the last call, and how much found no room.
    pub fn take_notes(&mut self) -> (Vec<Seen>, u64) {
        let notes = self.notes.as_mut();
        notes.map_or((Vec::new(), 0), |Notes { seen, left_out, .. }| {
            (std::mem::take(seen), std::mem::take(left_out))
        })
    }

    /// Continues with totals that an earlier agent has read in part: evictions count from here, and the totals from
    /// where they began.
    pub fn resume(&mut self, poll: &Poll) {
        self.evicted = poll.tally.inserted.saturating_sub(poll.entries);
    }

    /// The totals of the last read.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The time of the next poll that does anything although nothing is new: no answer can come to a source any more, or
    /// a finding ends.
    pub fn next(&self) -> Option<Duration> {
        self.unanswered().into_iter().chain(self.detector.tracker().next_close()).min()
    }

    /// When no answer can come any more to the first of the sources that wait for one.
    pub fn unanswered(&self) -> Option<Duration> {
        self.overdue.due()
    }

    /// Examines one source now, because the sensor reported it.
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
            self.overdue.note(source, &delta, now.at);
            note(&mut self.notes, |salt| Seen::new(*source, &delta, salt));
        }
        Ok(())
    }

    /// Reads samples, in the order in which they were taken.
    pub fn read(&mut self, samples: &[Sample<Vec<u8>>], now: Now) -> Vec<ContentEvent> {
        samples.iter().flat_map(|sample| self.streams.read(sample, now.at)).collect()
    }

    /// Takes a content event of a client or of the answer to it, and passes on the findings that follow.
    pub fn hear(&mut self, utterance: &ContentEvent, now: Now, tell: &mut dyn FnMut(Event)) {
        let history = self.observer.history(&utterance.source);
        self.detector.hear(utterance, history, now, tell);
    }

    /// Reads the sensor and passes on the findings that follow.
    ///
    /// # Errors
    /// The sensor could not be read. The data read before the failure is used; the next poll gets the rest.
    pub fn poll(
        &mut self,
        sensor: &mut dyn Sensor,
        now: Now,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Outcome, SensorError> {
        let Self { observer, detector, overdue, notes, .. } = self;
        // A caller without a response leaves them.
        detector.take_unplaced();
        let sees_answers = observer.sees_answers(sensor.sees_leaving());
        sensor.set_sees_answers(sees_answers)?;
        let poll = sensor.poll(&mut |source, state, ended_epoch| {
            if let Some((delta, history)) = observer.see(source, state, ended_epoch, now.at) {
                detector.see(*source, &delta, history, now, tell);
                overdue.note(source, &delta, now.at);
                note(notes, |salt| Seen::new(*source, &delta, salt));
            }
        })?;
        while let Some(asked) = overdue.next(now.at) {
            if let Some(history) = observer.history(&asked.source) {
                detector.see_again(asked.source, asked.samples, history, now, tell);
                note(notes, |salt| {
                    let lately = history.window(now.at, LATELY);
                    Seen::unanswered(asked.source, &asked.samples, &lately.activity, salt)
                });
            }
        }
        // If the observer removes a source, the kernel must do so as well. Otherwise its packets would be counted
        // twice.
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
        // The kernel reports insertions and the current number of entries, but not evictions.
        let gone = poll.tally.inserted.saturating_sub(poll.entries + self.removed);
        let evicted = gone.saturating_sub(self.evicted);
        self.evicted += evicted;
        Ok(Outcome { poll, delta, evicted })
    }
}
