//! Bursts of requests, in slices of ten seconds that are judged separately. So requests before or after a scan make
//! the scan no slower and its failures no rarer.

use std::time::Duration;

use super::words::{Means, Words};
use crate::observe::distinct::Sketch;

/// A slice begins with the first request after the end of the last one.
const SLICE: Duration = Duration::from_secs(10);
/// A burst is a slice with more requests than this for things that are known to be missing: one a second. Search
/// engines ask a host about once a second. List tools ask a hundred times as often, unless they are set to ask less.
const BURST: u64 = 10;
/// The same if nobody knows whether the things are there: ten a second. By default no crawler, link checker or monitor
/// is as fast, and list tools are ten times faster.
const BURST_OF_TOOLS: u64 = 100;
/// In tenths: of the distinct paths with a telling status, at least this part is missing. Crawls of sites with many
/// dead links stay below.
const MISSED_TENTHS: u64 = 7;
/// In tenths: of all requests, this part has no status, or one that tells nothing.
const UNKNOWN_TENTHS: u64 = 9;
/// How often a guessed path is asked for at most, on average: a client asks again for what it uses.
const ASKS_OF_PATHS: u64 = 3;
/// The same for a name.
const ASKS_OF_NAMES: u64 = 2;

/// Whether so many of the distinct paths were missing that they look like guesses.
pub const fn mostly_missed(missed: u64, met: u64) -> bool {
    missed * 10 >= (missed + met) * MISSED_TENTHS
}

/// Paths that were requested in a burst.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    began: Duration,
    requests: u64,
    referred: u64,
    /// Requests for which it is known whether their target is there.
    known: u64,
    asked: Sketch<8>,
    met: Sketch<8>,
    missed: Words,
    /// The sum of the slices that are over.
    guessed: u64,
    likely: u64,
}

impl Paths {
    pub(super) const EMPTY: Self = Self {
        began: Duration::ZERO,
        requests: 0,
        referred: 0,
        known: 0,
        asked: Sketch::EMPTY,
        met: Sketch::EMPTY,
        missed: Words::EMPTY,
        guessed: 0,
        likely: 0,
    };

    pub(super) fn ask(&mut self, path: u64, is_referred: bool, at: Duration) {
        self.turn(at);
        self.requests += 1;
        self.referred += u64::from(is_referred);
        self.asked.add(path);
    }

    pub(super) fn meet(&mut self, path: Option<u64>, at: Duration) {
        self.turn(at);
        self.known += 1;
        path.into_iter().for_each(|path| self.met.add(path));
    }

    pub(super) fn miss(&mut self, path: Option<u64>, means: Means, at: Duration) {
        self.turn(at);
        self.known += 1;
        path.into_iter().for_each(|path| self.missed.add(means, path));
    }

    /// Paths that were missing, counted once in each burst. Most paths of such a burst are missing, and no page sent
    /// the client to them.
    pub(super) fn guessed(&self) -> u64 {
        let (missed, met) = (self.missed.count(), self.met.count().value);
        let is_burst = missed > BURST && mostly_missed(self.missed.paths(), met) && !self.is_sent();
        self.guessed + if is_burst { missed } else { 0 }
    }

    /// The same for paths of which nobody knows whether they are there.
    pub(super) fn likely(&self) -> u64 {
        let asked = self.asked.count().value;
        let unknown = self.requests.saturating_sub(self.known);
        let is_burst = asked > BURST_OF_TOOLS
            && unknown * 10 >= self.requests * UNKNOWN_TENTHS
            && asked * ASKS_OF_PATHS >= self.requests
            && !self.is_sent();
        self.likely + if is_burst { asked } else { 0 }
    }

    /// Whether more than half of the requests name the page that sent the client.
    const fn is_sent(&self) -> bool {
        self.referred * 2 > self.requests
    }

    fn turn(&mut self, at: Duration) {
        if at.saturating_sub(self.began) >= SLICE {
            *self = Self { began: at, guessed: self.guessed(), likely: self.likely(), ..Self::EMPTY };
        }
    }
}

/// Names of one parent that were requested in a burst. There are many of these objects, so that they count new names
/// by the growth of the number of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    began: Duration,
    asked: u32,
    /// Number of distinct names when the slice began.
    before: u32,
    /// The sum of the slices that are over.
    guessed: u32,
}

impl Names {
    /// A request for a name. `names` is the number of distinct names before it.
    pub(super) fn ask(&mut self, names: u64, at: Duration) {
        if at.saturating_sub(self.began) >= SLICE {
            let (guessed, before) = (number(self.guessed(names)), number(names));
            *self = Self { began: at, asked: 0, before, guessed };
        }
        self.asked = self.asked.saturating_add(1);
    }

    /// Names that were new in bursts, and requested once or twice each. `names` is the number of distinct ones.
    pub(super) fn guessed(&self, names: u64) -> u64 {
        let new = names.saturating_sub(self.before.into());
        let is_burst = new > BURST_OF_TOOLS && u64::from(self.asked) <= new * ASKS_OF_NAMES;
        u64::from(self.guessed) + if is_burst { new } else { 0 }
    }
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
