//! What is said in haste, in slices of ten seconds that are judged each by itself: what somebody said long before a scan, or
//! after it, makes the scan no slower and its failures no rarer.

use std::time::Duration;

use crate::observe::distinct::Sketch;

/// A slice begins with the first thing that is said after the last one was over.
const SLICE: Duration = Duration::from_secs(10);
/// In a slice that is hasty there are more than so many things, where it is known that they are not there: one a second. Search engines
/// ask a host about once a second; list tools a hundred times as often unless they are told not to.
const BURST: u64 = 10;
/// The same where that is unknown: ten a second. No crawler, link checker or monitor is as fast by default, list tools are ten times faster.
const BURST_OF_TOOLS: u64 = 100;
/// Of distinct paths whose status says something, how many are not there at least, in tenths: crawls of sites with many dead links
/// stay below.
const MISSED_TENTHS: u64 = 7;
/// Of all requests, how many have a status that says nothing, or none that was seen, in tenths.
const UNKNOWN_TENTHS: u64 = 9;
/// How often a path that is guessed is asked for at most, on average: a client asks again for what it uses.
const ASKS_OF_PATHS: u64 = 3;
/// The same of a name.
const ASKS_OF_NAMES: u64 = 2;

/// Whether of so many distinct paths as many were not there as only guesses are.
pub const fn mostly_missed(missed: u64, met: u64) -> bool {
    missed * 10 >= (missed + met) * MISSED_TENTHS
}

/// Paths that were asked for in haste.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    began: Duration,
    requests: u64,
    referred: u64,
    /// Requests of which it is known whether what they asked for is there.
    known: u64,
    asked: Sketch<8>,
    met: Sketch<8>,
    missed: Sketch<8>,
    /// Of slices that are over.
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
        missed: Sketch::EMPTY,
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

    pub(super) fn miss(&mut self, path: Option<u64>, at: Duration) {
        self.turn(at);
        self.known += 1;
        path.into_iter().for_each(|path| self.missed.add(path));
    }

    /// Paths that were not there, counted once in each hasty slice most of whose paths were not there and to which nobody sent the client.
    pub(super) fn guessed(&self) -> u64 {
        let (missed, met) = (self.missed.count().value, self.met.count().value);
        let is_burst = missed > BURST && mostly_missed(missed, met) && !self.is_sent();
        self.guessed + if is_burst { missed } else { 0 }
    }

    /// The same of which it is unknown whether they were there.
    pub(super) fn likely(&self) -> u64 {
        let asked = self.asked.count().value;
        let unknown = self.requests.saturating_sub(self.known);
        let is_burst = asked > BURST_OF_TOOLS
            && unknown * 10 >= self.requests * UNKNOWN_TENTHS
            && asked * ASKS_OF_PATHS >= self.requests
            && !self.is_sent();
        self.likely + if is_burst { asked } else { 0 }
    }

    /// Whether more than half of the requests say where they were sent from.
    const fn is_sent(&self) -> bool {
        self.referred * 2 > self.requests
    }

    fn turn(&mut self, at: Duration) {
        if at.saturating_sub(self.began) >= SLICE {
            *self = Self { began: at, guessed: self.guessed(), likely: self.likely(), ..Self::EMPTY };
        }
    }
}

/// Names of one parent that were asked for in haste. There are many of these, so that new names are counted by how the number of all grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    began: Duration,
    asked: u32,
    /// Distinct names when the slice began.
    before: u32,
    /// Of slices that are over.
    guessed: u32,
}

impl Names {
    /// A name is asked for; `names` is how many distinct ones there were before.
    pub(super) fn ask(&mut self, names: u64, at: Duration) {
        if at.saturating_sub(self.began) >= SLICE {
            let (guessed, before) = (number(self.guessed(names)), number(names));
            *self = Self { began: at, asked: 0, before, guessed };
        }
        self.asked = self.asked.saturating_add(1);
    }

    /// Names that were new in hasty slices, and asked for once or twice each. `names` is how many distinct ones there are.
    pub(super) fn guessed(&self, names: u64) -> u64 {
        let new = names.saturating_sub(self.before.into());
        let is_burst = new > BURST_OF_TOOLS && u64::from(self.asked) <= new * ASKS_OF_NAMES;
        u64::from(self.guessed) + if is_burst { new } else { 0 }
    }
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
