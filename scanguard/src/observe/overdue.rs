//! Sources whose SYNs were not answered yet: they are looked at once more when no answer can come any more.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use scanguard_common::address::Address;

use super::{Delta, answers::HANDSHAKE};

/// A source to look at again.
pub struct Asked {
    due: Duration,
    /// The source.
    pub source: Address,
    /// Its activity then.
    pub delta: Delta,
}

/// They are in the order of time, and each source is among them once. So there are no more of them than sources with a
/// history.
#[derive(Default)]
pub struct Overdue {
    waiting: VecDeque<Asked>,
    sources: HashSet<Address>,
}

impl Overdue {
    /// Takes the new activity of a source.
    pub fn note(&mut self, source: &Address, delta: &Delta, at: Duration) {
        let distinct = &delta.activity.distinct;
        let waits =
            distinct.unanswered_services().iter().chain(&distinct.unanswered_hosts()).any(|word| *word != 0);
        if waits && self.sources.insert(*source) {
            let due = at + HANDSHAKE;
            self.waiting.push_back(Asked { due, source: *source, delta: delta.clone() });
        }
    }

    /// When the next source is due.
    pub fn due(&self) -> Option<Duration> {
        self.waiting.front().map(|asked| asked.due)
    }

    /// The next source that is due.
    pub fn next(&mut self, at: Duration) -> Option<Asked> {
        let asked = self.waiting.pop_front_if(|asked| asked.due <= at)?;
        self.sources.remove(&asked.source);
        Some(asked)
    }
}
