//! Tells an outage of this host's own network from scans: then all programs fail at once, and nobody is answered. Pure.
//!
//! Whoever scans meets somebody sooner or later, or others on this host do meanwhile. So it is an outage if several control
//! groups ask for new targets and nobody on the whole host is answered, not even by a refusal. While it lasts, findings about
//! scans are of severity `info`. What failed in it counts for nobody once it is over.

use std::time::Duration;

use scanguard_common::{
    actor::{Key, Kind},
    outcome::{Answer, ProbeClass},
};

use crate::observe::{activity::Activity, answers::HANDSHAKE};

/// So many control groups must fail. A host with fewer that ask for anything new is not told from a scan.
const GROUPS: usize = 3;
/// How many of them are noted.
const MOST: usize = 16;
/// For how long a failure counts. Meanwhile somebody on a host with a network is answered.
const LASTS: Duration = Duration::from_secs(60);

/// What is added to the reason of a finding meanwhile.
pub(super) const WORDS: &str =
    "; nobody on this host is answered at the moment, so that its own network may be down";

/// Whether this host reaches anybody.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Control groups that asked for something new since somebody was answered, with when they did so first and last.
    failing: Vec<(u64, Duration, Duration)>,
    /// When the last outage ended.
    ended: Duration,
}

impl Outage {
    /// Takes the new activity of an actor.
    pub(super) fn see(&mut self, actor: Key, new: &Activity, at: Duration) {
        // What comes of the others' packets is not known, or may be forged.
        if !matches!(actor.kind, Kind::Program | Kind::Group) {
            return;
        }
        if new.answered(Answer::SynAck) + new.answered(Answer::Reset) > 0 {
            self.answered(at);
        } else if new.counts.of(ProbeClass::Syn) > 0 {
            self.failing.retain(|(.., last)| at.saturating_sub(*last) < LASTS);
            let known = self.failing.iter_mut().find(|(group, ..)| *group == actor.group);
            if let Some((.., last)) = known {
                *last = at;
            } else if self.failing.len() < MOST {
                self.failing.push((actor.group, at, at));
            }
        }
    }

    /// Somebody was answered.
    pub(super) fn answered(&mut self, at: Duration) {
        if self.is_on(at) {
            self.ended = at;
        }
        self.failing.clear();
    }

    /// Whether nobody is reached. Answers to the latest attempts may still come.
    pub(super) fn is_on(&self, at: Duration) -> bool {
        let failed = self.failing.iter().filter(|(_, first, last)| {
            at.saturating_sub(*first) >= HANDSHAKE && at.saturating_sub(*last) < LASTS
        });
        failed.count() >= GROUPS
    }

    /// When the last one ended; zero if there was none.
    pub(super) fn ended(&self) -> Duration {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::account::{Distinct, SourceState};

    use super::*;
    use crate::observe::activity::Totals;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn activity(syns: u32, answer: Option<Answer>) -> Activity {
        let mut state = SourceState::new(0, 0);
        state.counts[ProbeClass::Syn.index()] = syns;
        if let Some(answer) = answer {
            state.answers[answer.index()] = 1;
        }
        Activity::between(&Totals::default(), &Totals::from(&state), Distinct::EMPTY)
    }

    /// An outage in which these groups ask, one after the other.
    fn of_groups(groups: u64) -> Outage {
        let mut outage = Outage::default();
        (0..groups).for_each(|group| outage.see(Key::of_group(group), &activity(5, None), at(10)));
        outage
    }

    #[test]
    fn several_groups_that_nobody_answers_are_an_outage_and_two_are_none() {
        for (groups, expected) in [(2, false), (3, true), (40, true)] {
            assert_eq!(of_groups(groups).is_on(at(14)), expected, "{groups}");
        }
        assert!(!of_groups(3).is_on(at(12)), "answers may still come");
        assert!(!of_groups(3).is_on(at(80)), "it is long ago");
    }

    #[test]
    fn one_answer_of_any_kind_to_anybody_ends_it_and_its_end_is_remembered() {
        for answer in [Answer::SynAck, Answer::Reset] {
            let mut outage = of_groups(3);
            outage.see(Key::of_group(9), &activity(1, Some(answer)), at(20));
            assert!(!outage.is_on(at(20)));
            assert_eq!(outage.ended(), at(20));
        }
        let mut none = of_groups(2);
        none.answered(at(20));
        assert_eq!(none.ended(), at(0));
    }

    #[test]
    fn makers_of_packets_and_hosts_behind_this_one_do_not_count() {
        let mut outage = Outage::default();
        for group in 0..5 {
            let crafter = Key::of_program(Kind::Crafter, group, 0, 7);
            outage.see(crafter, &activity(5, None), at(10));
            outage.see(Key { kind: Kind::Inner, group: 0, of: group }, &activity(5, None), at(10));
        }
        assert!(!outage.is_on(at(20)));
    }
}
