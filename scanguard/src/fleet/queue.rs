//! Sightings that wait to be sent, and the file in which they outlive an agent. Bounded: the oldest go first.

use std::{collections::VecDeque, io, path::Path, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wire::{OLDEST, Sighting};
use crate::{clock::Now, whole_file};

/// How many sightings wait.
pub(super) const MOST: usize = 10_000;
/// How many bytes they take in the file.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// A sighting that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) sighting: Sighting,
    /// When it was made: milliseconds by the monotonic clock of this run, which may have begun later.
    at: i64,
    bytes: usize,
}

impl Waiting {
    /// The sighting, with its age.
    pub(super) fn aged(&self, now: Duration) -> Sighting {
        let age = milliseconds(now).saturating_sub(self.at);
        Sighting { age: u64::try_from(age).unwrap_or(0), ..self.sighting.clone() }
    }
}

fn milliseconds(at: Duration) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A line of the file.
#[derive(Deserialize, Serialize)]
struct Line {
    /// Time of day in milliseconds. Only the difference to that at which it is read counts, and that is capped.
    at: i64,
    sighting: Sighting,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    dropped: u64,
    changed: bool,
}

impl Queue {
    /// Adds a sighting.
    pub(super) fn push(&mut self, sighting: Sighting, now: Duration) {
        self.add(sighting, milliseconds(now));
    }

    fn add(&mut self, sighting: Sighting, at: i64) {
        // The line that it will be, but for a few bytes.
        let bytes = serde_json::to_vec(&sighting).map_or(0, |json| json.len()) + 48;
        self.bytes += bytes;
        self.waiting.push_back(Waiting { sighting, at, bytes });
        self.changed = true;
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        while self.waiting.len() > MOST || self.bytes > MOST_BYTES {
            let Some(oldest) = self.waiting.pop_front() else { return };
            self.bytes -= oldest.bytes;
            self.dropped += 1;
        }
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self, most: usize) -> Vec<Waiting> {
        let taken: Vec<_> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        self.bytes -= taken.iter().map(|one| one.bytes).sum::<usize>();
        self.changed |= !taken.is_empty();
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The content for the file, with what is being sent before what waits.
    pub(super) fn lines<'w>(&'w self, sending: impl Iterator<Item = &'w Waiting>, now: Now) -> Vec<u8> {
        let wall = now.wall.as_millisecond();
        let mut lines = Vec::new();
        for Waiting { sighting, at, .. } in sending.chain(&self.waiting) {
            let at = wall - (milliseconds(now.at) - at);
            if serde_json::to_writer(&mut lines, &Line { at, sighting: sighting.clone() }).is_ok() {
                lines.push(b'\n');
            }
        }
        lines
    }

    /// Reads the file of an earlier agent, if there is one. Returns how many lines could not be read.
    ///
    /// # Errors
    /// The file could not be read at all.
    pub(super) fn load(&mut self, path: &Path, now: Now) -> io::Result<u64> {
        // What was being sent may have been written in addition.
        let Some(bytes) = whole_file::read_if_there(path, 2 * MOST_BYTES as u64)? else {
            return Ok(0);
        };
        let mut wrong = 0;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(Line { at, sighting }) => {
                    let age = now.wall.as_millisecond().saturating_sub(at).clamp(0, milliseconds(OLDEST));
                    self.add(sighting, milliseconds(now.at) - age);
                }
                Err(_) => wrong += 1,
            }
        }
        self.changed = false;
        Ok(wrong)
    }
}

/// Writes the file, or removes it if there is nothing to write.
///
/// # Errors
/// It could not be.
pub(super) fn write(path: &Path, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    whole_file::replace(path, lines)
}

/// Moves a file aside that cannot be read.
pub(super) fn move_aside(path: &Path, now: Timestamp) {
    match whole_file::move_aside(path, "unreadable", now) {
        Ok(aside) => tracing::error!("fleet.spool: moved to {}", aside.display()),
        Err(error) => tracing::error!("fleet.spool: {} stays in the way: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(number: u32) -> Sighting {
        serde_json::from_value(serde_json::json!({ "s": format!("192.0.2.{}/32", number % 256) })).unwrap()
    }

    fn now(seconds: u64, wall: i64) -> Now {
        Now { at: Duration::from_secs(seconds), wall: Timestamp::from_second(wall).unwrap() }
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut queue = Queue::default();
        for number in 0..MOST as u32 + 5 {
            queue.push(sighting(number), Duration::from_secs(number.into()));
        }
        assert_eq!((queue.len(), queue.take_dropped(), queue.take_dropped()), (MOST, 5, 0));
        assert_eq!(queue.take(1)[0].aged(Duration::from_secs(6)).age, 1_000);
        let rest = queue.take(usize::MAX);
        assert_eq!((rest.len(), queue.bytes), (MOST - 1, 0));
    }

    #[test]
    fn what_waits_outlives_the_agent_and_its_clock() {
        let path = std::env::temp_dir().join(format!("scanguard-queue-{}", std::process::id()));
        let mut before = Queue::default();
        before.push(sighting(1), Duration::from_secs(90));
        before.push(sighting(2), Duration::from_secs(100));
        write(&path, &before.lines(std::iter::empty(), now(100, 1_000))).unwrap();
        // The next agent begins its own time 50 s later, and then one whose clock is an hour behind.
        for (wall, ages) in [(1_050, [60_000, 50_000]), (1_000 - 3_600, [0, 0])] {
            let mut after = Queue::default();
            assert_eq!(after.load(&path, now(0, wall)).unwrap(), 0);
            let read: Vec<_> = after.take(9).iter().map(|one| one.aged(Duration::ZERO).age).collect();
            assert_eq!(read, ages);
        }
        std::fs::write(&path, b"{\"at\":1}\nnonsense\n").unwrap();
        assert_eq!(Queue::default().load(&path, now(0, 0)).unwrap(), 2);
        write(&path, b"").unwrap();
        assert_eq!(Queue::default().load(&path, now(0, 0)).unwrap(), 0);
    }
}
