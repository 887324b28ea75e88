//! How far members are believed.
//!
//! A scanner of the fleet is seen by several members, a source that is made up by one only. Much of what hosts see of
//! the Internet is seen by one only, too. So a member is compared with the others: it is left aside if the share of its
//! sources that others saw is less than a tenth of what it is at the middle one of them, and that is no chance.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// How often members are judged.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// After this time, what was counted counts half.
const HALF: Duration = Duration::from_secs(6 * 60 * 60);
/// Sources that a member has to name before it is judged.
const LEAST: f64 = 50.0;
/// Members that have to have named so many, so that there is something to compare with.
const PEERS: usize = 5;
/// Below this share of the middle one, a member is left aside.
const PART: f64 = 0.1;
/// How many standard deviations above what was counted the share may really be.
const CHANCE: f64 = 3.0;
/// Shares below this tell nothing.
const LEAST_SHARE: f64 = 0.1;
/// Message numbers that are remembered behind the greatest one.
const WINDOW: u64 = 512;
/// Runs of a member that are remembered.
const RUNS: usize = 4;

/// A member as the status shows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// Seconds since its last message.
    pub seconds_since_last: u64,
    /// Messages.
    pub messages: u64,
    /// Why it is left aside.
    pub aside: Option<String>,
}

/// What is known of a member.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// The server's time of its last message.
    pub(super) last: Duration,
    pub(super) messages: u64,
    /// How many addresses it named as its own, and how many places of services.
    pub(super) own: usize,
    pub(super) places: usize,
    /// Why it is left aside.
    pub(super) aside: Option<String>,
    pub(super) numbers: Numbers,
    pub(super) accused: f64,
    pub(super) borne: f64,
    pub(super) halved: Duration,
}

impl Member {
    /// It named a source that missed something, which others named before or not.
    pub(super) fn accused(&mut self, borne_out: bool) {
        self.accused += 1.0;
        if borne_out {
            self.borne += 1.0;
        }
    }

    /// Another member named a source that it was alone with.
    pub(super) fn borne_out(&mut self) {
        self.borne += 1.0;
    }

    fn share(&self) -> Option<f64> {
        (self.accused >= LEAST).then(|| self.borne / self.accused)
    }

    /// The largest share of which what was counted may be a chance: the deviation of a count is about its root.
    fn share_at_most(&self) -> Option<f64> {
        let borne = self.borne + CHANCE * (self.borne + 1.0).sqrt();
        (self.accused >= LEAST).then(|| borne / self.accused)
    }

    pub(super) fn report(&self, name: &str, now: Duration) -> MemberReport {
        MemberReport {
            name: name.to_owned(),
            seconds_since_last: now.saturating_sub(self.last).as_secs(),
            messages: self.messages,
            aside: self.aside.clone(),
        }
    }
}

/// Judges all members. Returns those about whom that changed.
pub(super) fn judge(
    members: &mut IndexMap<Arc<str>, Member>,
    now: Duration,
) -> Vec<(Arc<str>, Option<String>)> {
    for member in members.values_mut() {
        if now.saturating_sub(member.halved) >= HALF {
            member.halved = now;
            member.accused /= 2.0;
            member.borne /= 2.0;
        }
    }
    let mut shares: Vec<_> = members.values().filter_map(Member::share).collect();
    shares.sort_by(f64::total_cmp);
    let middle =
        (shares.len() >= PEERS).then(|| shares[shares.len() / 2]).filter(|share| *share >= LEAST_SHARE);
    let mut changed = Vec::new();
    for (name, member) in members.iter_mut() {
        let is_low = |middle: f64| member.share_at_most().is_some_and(|share| share < middle * PART);
        let lies = middle.zip(member.share()).filter(|(middle, _)| is_low(*middle));
        match (lies, &member.aside) {
            (Some((middle, share)), None) => {
                let why = format!(
                    "others saw {:.0} % of the sources that it named; in the middle that is {:.0} %",
                    share * 100.0,
                    middle * 100.0
                );
                member.aside = Some(why.clone());
                changed.push((Arc::clone(name), Some(why)));
            }
            (None, Some(_)) => {
                member.aside = None;
                changed.push((Arc::clone(name), None));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    changed
}

/// The numbers of messages that were taken, by run of the member.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Numbers(VecDeque<Run>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Run {
    boot: u64,
    greatest: u64,
    /// A bit for each of the [`WINDOW`] numbers up to the greatest, which is the lowest bit of the first word.
    taken: [u64; (WINDOW / 64) as usize],
}

impl Numbers {
    /// The answer of [`Self::take`] about a message that was taken before.
    pub(super) const AGAIN: bool = false;

    /// Whether there are no more runs than are remembered.
    pub(super) fn is_bounded(&self) -> bool {
        self.0.len() <= RUNS
    }

    /// Whether a message is new. One that is far behind counts as new: all that it says are members of sets.
    pub(super) fn take(&mut self, boot: u64, number: u64) -> bool {
        let Some(run) = self.0.iter_mut().find(|run| run.boot == boot) else {
            if self.0.len() >= RUNS {
                self.0.pop_front();
            }
            let mut run = Run { boot, greatest: number, taken: [0; (WINDOW / 64) as usize] };
            run.taken[0] = 1;
            self.0.push_back(run);
            return true;
        };
        if number > run.greatest {
            run.shift(number - run.greatest);
            run.greatest = number;
            run.taken[0] |= 1;
            return true;
        }
        let behind = run.greatest - number;
        if behind >= WINDOW {
            return true;
        }
        let (word, bit) = ((behind / 64) as usize, 1 << (behind % 64));
        let is_new = run.taken[word] & bit == 0;
        run.taken[word] |= bit;
        is_new
    }
}

impl Run {
    fn shift(&mut self, by: u64) {
        let (words, bits) = ((by / 64) as usize, by % 64);
        let before = self.taken;
        for (place, word) in self.taken.iter_mut().enumerate() {
            let low = place.checked_sub(words).and_then(|from| before.get(from)).copied().unwrap_or(0);
            let high = place.checked_sub(words + 1).and_then(|from| before.get(from)).copied().unwrap_or(0);
            *word = if bits == 0 { low } else { low << bits | high >> (64 - bits) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_within_the_window_is_new_once(steps in prop::collection::vec(0u64..40, 1..300)) {
            let (mut numbers, mut seen, mut at) = (Numbers::default(), HashSet::new(), 1_000u64);
            for step in steps {
                let number = at + step;
                prop_assert_eq!(numbers.take(7, number), seen.insert(number));
                at += step / 4;
            }
        }
    }

    #[test]
    fn a_new_run_begins_anew_and_few_are_remembered() {
        let mut numbers = Numbers::default();
        assert!(numbers.take(1, 5) && !numbers.take(1, 5) && numbers.take(2, 5));
        for boot in 10..20 {
            assert!(numbers.take(boot, 1));
        }
        assert_eq!(numbers.0.len(), RUNS);
    }
}
