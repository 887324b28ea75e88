//! What members said of one source.

use std::time::Duration;

use smallvec::SmallVec;

use super::MemberId;
use crate::{
    fleet::wire::{Asked, Fate, Sighting},
    observe::seen::Met,
};

/// How many members' words are kept about a source. More decide nothing else.
pub(super) const MAX_VOTES: usize = 64;
/// How many items are kept of each.
pub(super) const MAX_ITEMS: usize = 32;

/// What one member said of a source.
#[derive(Debug)]
pub(super) struct Vote {
    /// Who.
    pub(super) member: MemberId,
    /// What was missed there, with the last time.
    pub(super) missed: SmallVec<[(Asked, Duration); 1]>,
    /// What was met there.
    pub(super) met: SmallVec<[(Asked, Duration); 1]>,
    /// When it last had proof.
    pub(super) proven: Option<Duration>,
    pub(super) last: Duration,
    /// Whether anything that it said accuses the source.
    pub(super) accuses: bool,
}

impl Vote {
    /// How many distinct services were met since then.
    pub(super) fn met_since(&self, since: Duration) -> u64 {
        self.met.iter().filter(|(_, at)| *at >= since).count() as u64
    }
}

/// What a sighting changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kept {
    /// The first member to accuse this source.
    First,
    /// The second one; the first was this one.
    Second(MemberId),
    /// A further one.
    Later,
    /// Nobody new accuses it.
    Known,
}

/// What members said of a source.
#[derive(Debug, Default)]
pub(super) struct Source {
    votes: SmallVec<[Vote; 1]>,
    left_out: u32,
}

impl Source {
    /// The knowledge of an earlier worker.
    pub(super) fn again(votes: SmallVec<[Vote; 1]>, left_out: u32) -> Self {
        Self { votes, left_out }
    }

    pub(super) fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// The report of a member.
    pub(super) fn vote(&self, member: MemberId) -> Option<&Vote> {
        self.votes.iter().find(|vote| vote.member == member)
    }

    /// Words that found no room.
    pub(super) fn left_out(&self) -> u32 {
        self.left_out
    }

    /// When anybody saw it last.
    pub(super) fn last(&self) -> Duration {
        self.votes.iter().map(|vote| vote.last).max().unwrap_or_default()
    }

    /// Takes a sighting. `accuses`: something in it is evidence.
    pub(super) fn note(
        &mut self,
        member: MemberId,
        sighting: &Sighting,
        at: Duration,
        accuses: bool,
    ) -> Kept {
        let place = self.votes.iter().position(|vote| vote.member == member);
        if place.is_none() && self.votes.len() >= MAX_VOTES {
            self.left_out = self.left_out.saturating_add(1);
            // Evidence takes the place of a word that says nothing for or against the source.
            let idle = self.votes.iter().position(|vote| !vote.accuses && vote.met.is_empty());
            match idle.filter(|_| accuses) {
                Some(idle) => drop(self.votes.swap_remove(idle)),
                None => return Kept::Known,
            }
        }
        let accusers: SmallVec<[MemberId; 2]> =
            self.votes.iter().filter(|vote| vote.accuses).map(|vote| vote.member).take(2).collect();
        let place = place.unwrap_or_else(|| {
            self.votes.push(Vote {
                member,
                missed: SmallVec::new(),
                met: SmallVec::new(),
                proven: None,
                last: at,
                accuses: false,
            });
            self.votes.len() - 1
        });
        let vote = &mut self.votes[place];
        let accused = vote.accuses;
        vote.accuses |= accuses;
        vote.last = vote.last.max(at);
        if sighting.proven {
            vote.proven = vote.proven.max(Some(at));
        }
        for item in &sighting.items {
            match item.3 {
                Fate(Some(Met::Open)) => keep(&mut vote.met, item, at, &mut self.left_out),
                Fate(Some(Met::Closed | Met::Filtered | Met::Dark)) => {
                    keep(&mut vote.missed, item, at, &mut self.left_out);
                }
                Fate(None) => {}
            }
        }
        if accused || !accuses {
            return Kept::Known;
        }
        match accusers.as_slice() {
            [] => Kept::First,
            [first] => Kept::Second(*first),
            [..] => Kept::Later,
        }
    }
}

fn keep(items: &mut SmallVec<[(Asked, Duration); 1]>, item: &Asked, at: Duration, left_out: &mut u32) {
    if let Some((_, last)) = items.iter_mut().find(|(kept, _)| kept == item) {
        *last = at.max(*last);
    } else if items.len() < MAX_ITEMS {
        items.push((*item, at));
    } else {
        *left_out = left_out.saturating_add(1);
    }
}
