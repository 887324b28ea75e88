//! The knowledge of a worker about a partition, as bytes, so that the next worker need not read the window again.
//!
//! The bytes come from a server. They are checked as those of members are, and nothing is used if anything is wrong. What
//! follows from other parts is left out: the times of services are those of their places.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    Correlator, InForce, MAX_MEMBERS, MAX_PLACES, MemberId, RECENT, Recent,
    source::{MAX_ITEMS, MAX_VOTES, Source, Vote},
    trust::{Member, Numbers},
};
use crate::{
    fleet::{
        settings::{Run, check_name},
        wire::{Asked, Decision, Fate, MAX_EVIDENCE, MAX_NAMED, Place, Verdict, check_source},
    },
    observe::seen::Met,
};

/// The longest text, in bytes.
const MAX_TEXT: usize = 500;

/// Why bytes are not used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    /// They are no state.
    #[error("it cannot be read: {0}")]
    Form(#[from] postcard::Error),
    /// Something in them cannot be.
    #[error("{0}")]
    Wrong(&'static str),
}

/// Milliseconds before the state was written.
type Ago = u64;

#[derive(Deserialize, Serialize)]
struct State {
    /// Milliseconds since 1970, by the server's clock.
    at: u64,
    members: Vec<PackedMember>,
    own: Vec<(IpAddr, MemberId)>,
    places: Vec<(MemberId, Place, Ago)>,
    sources: Vec<PackedSource>,
    in_force: Vec<(IpNet, Verdict, String, u64)>,
    recent: Vec<(Ago, Decision)>,
}

#[derive(Deserialize, Serialize)]
struct PackedMember {
    name: String,
    last: Ago,
    messages: u64,
    aside: Option<String>,
    numbers: Numbers,
    accused: f64,
    borne: f64,
    halved: Ago,
}

#[derive(Deserialize, Serialize)]
struct PackedSource {
    net: IpNet,
    votes: Vec<PackedVote>,
    left_out: u32,
}

#[derive(Deserialize, Serialize)]
struct PackedVote {
    member: MemberId,
    missed: Vec<PackedItem>,
    met: Vec<PackedItem>,
    proven: Option<Ago>,
    last: Ago,
    accuses: bool,
}

/// Address, protocol, port, what it met, and when.
#[derive(Deserialize, Serialize)]
struct PackedItem(IpAddr, u8, u16, u8, Ago);

/// Times as they are written.
#[derive(Clone, Copy)]
struct Base(Duration);

impl Base {
    fn ago(self, at: Duration) -> Ago {
        milliseconds(self.0.saturating_sub(at))
    }

    fn at(self, ago: Ago) -> Duration {
        self.0.saturating_sub(Duration::from_millis(ago))
    }

    fn pack(self, items: &[(Asked, Duration)]) -> Vec<PackedItem> {
        let known = items.iter().filter_map(|(item, at)| {
            let Asked(ip, protocol, port, Fate(met)) = *item;
            Some(PackedItem(ip, protocol, port, u8::try_from(met?.index()).ok()?, self.ago(*at)))
        });
        known.collect()
    }

    fn unpack(
        self,
        items: Vec<PackedItem>,
        are_missed: bool,
    ) -> Result<SmallVec<[(Asked, Duration); 1]>, StateError> {
        if items.len() > MAX_ITEMS {
            return Err(StateError::Wrong("more items than are kept"));
        }
        let one = |PackedItem(ip, protocol, port, met, ago)| {
            let met = Met::ALL.into_iter().find(|known| known.index() == usize::from(met));
            let met = met.filter(|met| met.is_missed() == are_missed);
            let met = met.ok_or(StateError::Wrong("an item that met something else"))?;
            Ok((Asked(ip, protocol, port, Fate(Some(met))), self.at(ago)))
        };
        items.into_iter().map(one).collect()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Correlator {
    /// All that a successor needs, as bytes.
    ///
    /// # Errors
    /// It cannot be written: a mistake in the code.
    pub fn encode(&self, now: Duration) -> Result<Vec<u8>, StateError> {
        let base = Base(Duration::from_millis(milliseconds(now)));
        let members = self.members.iter().map(|(name, member)| PackedMember {
            name: name.to_string(),
            last: base.ago(member.last),
            messages: member.messages,
            aside: member.aside.clone(),
            numbers: member.numbers.clone(),
            accused: member.accused,
            borne: member.borne,
            halved: base.ago(member.halved),
        });
        let vote = |vote: &Vote| PackedVote {
            member: vote.member,
            missed: base.pack(&vote.missed),
            met: base.pack(&vote.met),
            proven: vote.proven.map(|at| base.ago(at)),
            last: base.ago(vote.last),
            accuses: vote.accuses,
        };
        let sources = self.sources.iter().map(|(net, source)| PackedSource {
            net: *net,
            votes: source.votes().iter().map(vote).collect(),
            left_out: source.left_out(),
        });
        let state = State {
            at: milliseconds(base.0),
            members: members.collect(),
            own: self.own.iter().map(|(ip, id)| (*ip, *id)).collect(),
            places: self.places.iter().map(|((id, place), last)| (*id, *place, base.ago(*last))).collect(),
            sources: sources.collect(),
            in_force: self
                .in_force
                .iter()
                .map(|(net, decision)| {
                    let until = milliseconds(decision.until);
                    (*net, decision.verdict, decision.rule.clone(), until)
                })
                .collect(),
            recent: self.recent.iter().map(|recent| (base.ago(recent.at), recent.decision.clone())).collect(),
        };
        Ok(postcard::to_allocvec(&state)?)
    }

    /// The knowledge of a predecessor. Of more sources than these settings allow, the last ones are left out and counted.
    ///
    /// # Errors
    /// Something is wrong with the bytes. Nothing of them is used.
    pub fn decode(settings: Run, bytes: &[u8]) -> Result<Self, StateError> {
        let (state, rest): (State, _) = postcard::take_from_bytes(bytes)?;
        if !rest.is_empty() {
            return Err(StateError::Wrong("there is more behind it"));
        }
        let base = Base(Duration::from_millis(state.at));
        let mut correlator = Self::new(settings);
        correlator.members = members(state.members, base)?;
        for (ip, id) in state.own {
            let member = correlator.known(id)?;
            member.own += 1;
            if member.own > MAX_NAMED || correlator.own.insert(ip, id).is_some() {
                return Err(StateError::Wrong("more addresses of a member than are kept"));
            }
        }
        for (id, place, ago) in state.places {
            let member = correlator.known(id)?;
            if member.places >= MAX_PLACES || correlator.places.contains_key(&(id, place)) {
                return Err(StateError::Wrong("more services of a member than are kept"));
            }
            correlator.note_open(id, place, base.at(ago));
        }
        let most = correlator.settings.max_sources as usize;
        for source in state.sources {
            check_source(source.net).map_err(|_| StateError::Wrong("a source that is none"))?;
            let (net, source) = (source.net, correlator.source(source, base)?);
            if correlator.sources.len() >= most {
                correlator.bounds.evicted += 1;
            } else if correlator.sources.insert(net, source).is_some() {
                return Err(StateError::Wrong("a source that is named twice"));
            }
        }
        for (net, verdict, rule, until) in state.in_force {
            check_source(net).map_err(|_| StateError::Wrong("a decision about no source"))?;
            check_text(&rule)?;
            let until = Duration::from_millis(until);
            correlator.in_force.insert(net, InForce { verdict, rule, until });
        }
        correlator.recent = recent(state.recent, base)?;
        Ok(correlator)
    }

    fn known(&mut self, id: MemberId) -> Result<&mut Member, StateError> {
        let member = self.members.get_index_mut(id as usize).map(|(_, member)| member);
        member.ok_or(StateError::Wrong("a member that is not named"))
    }

    fn source(&self, packed: PackedSource, base: Base) -> Result<Source, StateError> {
        let mut voters = BTreeSet::new();
        let is_known = packed.votes.iter().all(|vote| (vote.member as usize) < self.members.len());
        if !is_known || !packed.votes.iter().all(|vote| voters.insert(vote.member)) {
            return Err(StateError::Wrong("votes of a member that is not named, or has voted"));
        }
        if packed.votes.is_empty() || packed.votes.len() > MAX_VOTES {
            return Err(StateError::Wrong("no votes about a source, or more than are kept"));
        }
        let vote = |vote: PackedVote| {
            Ok::<_, StateError>(Vote {
                member: vote.member,
                missed: base.unpack(vote.missed, true)?,
                met: base.unpack(vote.met, false)?,
                proven: vote.proven.map(|ago| base.at(ago)),
                last: base.at(vote.last),
                accuses: vote.accuses,
            })
        };
        let votes = packed.votes.into_iter().map(vote).collect::<Result<_, _>>()?;
        Ok(Source::again(votes, packed.left_out))
    }
}

fn members(packed: Vec<PackedMember>, base: Base) -> Result<IndexMap<Arc<str>, Member>, StateError> {
    if packed.len() > MAX_MEMBERS {
        return Err(StateError::Wrong("more members than are remembered"));
    }
    let mut members = IndexMap::with_capacity(packed.len());
    for PackedMember { name, last, messages, aside, numbers, accused, borne, halved } in packed {
        check_name(&name).map_err(|_| StateError::Wrong("a name that no member has"))?;
        aside.as_deref().map_or(Ok(()), check_text)?;
        let is_count = |count: f64| count.is_finite() && count >= 0.0;
        if !numbers.is_bounded() || !is_count(accused) || !is_count(borne) {
            return Err(StateError::Wrong("numbers that no member has"));
        }
        let member = Member {
            last: base.at(last),
            messages,
            own: 0,
            places: 0,
            aside,
            numbers,
            accused,
            borne,
            halved: base.at(halved),
        };
        if members.insert(Arc::from(name), member).is_some() {
            return Err(StateError::Wrong("a member that is named twice"));
        }
    }
    Ok(members)
}

fn recent(packed: Vec<(Ago, Decision)>, base: Base) -> Result<VecDeque<Recent>, StateError> {
    if packed.len() > RECENT {
        return Err(StateError::Wrong("more decisions than are remembered"));
    }
    let one = |(ago, decision): (Ago, Decision)| {
        check_text(&decision.rule)?;
        check_text(&decision.reason)?;
        if decision.evidence.len() > MAX_EVIDENCE {
            return Err(StateError::Wrong("more evidence than is ever quoted"));
        }
        Ok(Recent { at: base.at(ago), decision })
    };
    packed.into_iter().map(one).collect()
}

fn check_text(text: &str) -> Result<(), StateError> {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(StateError::Wrong("a text that is no short one"))
}

#[cfg(test)]
mod tests;
