//! The entries of the list of sensitive paths that a source asked for, exactly and in bounded memory.

use std::collections::BTreeSet;

use super::{
    lists::{Entry, Sensitivity},
    sender::Sender,
};

/// How many entries are remembered. Thresholds are lower.
const MAX_ENTRIES: usize = 256;
/// Of what several User-Agents asked for, so many count as one.
const AGENTS_WEIGHT: u64 = 4;
/// How many applications that are here are remembered.
const MAX_HERE: usize = 64;

/// An entry that the source asked for. Each set has one bit for each [`Sender`].
#[derive(Clone, Copy, Debug)]
struct Asked {
    entry: Entry,
    /// The User-Agent that asked for it first.
    agent: u8,
    /// Nobody asks for it honestly.
    certain: u8,
    /// It was not there.
    missing: u8,
    /// It was not there, or the source may not have it.
    missed: u8,
}

/// The client, or what made it ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) sender: Sender,
    /// Some bits of a hash of the User-Agent.
    pub(super) agent: u8,
}

/// What is counted of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It was asked for, whatever the answer was.
    Asked,
    /// Nobody asks for it honestly.
    Certain,
    /// The same, or it was not there, and the source met nothing of its application.
    Sought,
    /// The same, if the source was not only refused.
    Missing,
}

/// Which requests are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// Those of the client itself, as far as anything shows.
    Client,
    /// Those, and those that other pages sent it to. Of those of this host's own pages, four count as one.
    Anybody,
}

/// Entries of the list that a source asked for.
#[derive(Clone, Debug, Default)]
pub struct Sensitive {
    asked: Vec<Asked>,
    /// The applications of which it met something here.
    here: Vec<u16>,
}

const fn bit(sender: Sender) -> u8 {
    1 << sender as u8
}

impl Sensitive {
    /// Nothing.
    pub(super) const EMPTY: Self = Self { asked: Vec::new(), here: Vec::new() };

    /// How much memory it takes at most, beside itself.
    #[cfg(test)]
    pub(super) const MAX_BYTES: usize = MAX_ENTRIES * size_of::<Asked>() + MAX_HERE * size_of::<u16>();

    fn of(&mut self, entry: Entry, agent: u8) -> Option<&mut Asked> {
        let place = self.asked.iter().position(|asked| asked.entry.number == entry.number);
        if place.is_none() && self.asked.len() == MAX_ENTRIES {
            return None;
        }
        let new = Asked { entry, agent, certain: 0, missing: 0, missed: 0 };
        Some(match place {
            Some(place) => &mut self.asked[place],
            None => self.asked.push_mut(new),
        })
    }

    /// A request for a path of this entry.
    pub(super) fn ask(&mut self, entry: Entry, Asker { sender, agent }: Asker) {
        let is_certain = entry.sensitivity == Sensitivity::Nowhere;
        if let Some(asked) = self.of(entry, agent) {
            asked.certain |= if is_certain { bit(sender) } else { 0 };
        }
    }

    /// It was not there; or it was refused, and nobody knows whether it is there.
    pub(super) fn miss(&mut self, entry: Entry, Asker { sender, agent }: Asker, is_refused: bool) {
        let is_certain = entry.sensitivity == Sensitivity::Deeper;
        if let Some(asked) = self.of(entry, agent) {
            asked.missed |= bit(sender);
            asked.missing |= if is_refused { 0 } else { bit(sender) };
            asked.certain |= if is_certain { bit(sender) } else { 0 };
        }
    }

    /// Its application is here.
    pub(super) fn meet(&mut self, entry: Entry) {
        if self.here.len() < MAX_HERE && !self.here.contains(&entry.family) {
            self.here.push(entry.family);
        }
    }

    /// Whether the source met something of its application.
    pub(super) fn is_here(&self, entry: Entry) -> bool {
        self.here.contains(&entry.family)
    }

    /// The senders of requests for an entry that are counted.
    fn senders(&self, asked: &Asked, kind: Kind) -> u8 {
        let is_here = self.is_here(asked.entry);
        match kind {
            Kind::Asked => u8::MAX,
            Kind::Certain => asked.certain,
            Kind::Sought | Kind::Missing if is_here => asked.certain,
            Kind::Sought => asked.certain | asked.missed,
            Kind::Missing => asked.certain | asked.missing,
        }
    }

    /// As many as one User-Agent asked for. Behind one address there may be people with browsers of their own, each of
    /// whom looks for one thing. But a scanner may change its User-Agent: of all, some count as one.
    fn count(&self, kind: Kind, by: By, what: fn(&Entry) -> u16) -> u64 {
        let agents: BTreeSet<_> = self.asked.iter().map(|asked| asked.agent).collect();
        let of_one = agents.iter().map(|agent| self.count_of(Some(*agent), kind, by, what)).max();
        let of_all = self.count_of(None, kind, by, what) / AGENTS_WEIGHT;
        of_one.unwrap_or_default().max(of_all)
    }

    fn count_of(&self, agent: Option<u8>, kind: Kind, by: By, what: fn(&Entry) -> u16) -> u64 {
        let of = |senders: u8| {
            let by_agent = self.asked.iter().filter(|asked| agent.is_none_or(|agent| agent == asked.agent));
            let counted = by_agent.filter(|asked| self.senders(asked, kind) & senders != 0);
            counted.map(|asked| what(&asked.entry)).collect::<BTreeSet<_>>()
        };
        match by {
            By::Client => of(bit(Sender::Client)).len() as u64,
            By::Anybody => {
                let others = of(bit(Sender::Client) | bit(Sender::Page));
                let own = of(bit(Sender::OwnPage)).difference(&others).count() as u64;
                others.len() as u64 + own / super::OWN_WEIGHT
            }
        }
    }

    /// Distinct entries.
    pub fn entries(&self, kind: Kind, by: By) -> u64 {
        self.count(kind, by, |entry| entry.number)
    }

    /// Distinct applications.
    pub fn families(&self, kind: Kind, by: By) -> u64 {
        self.count(kind, by, |entry| entry.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u16, family: u16) -> Entry {
        Entry { number, family, sensitivity: Sensitivity::Somewhere }
    }

    fn by(sender: Sender) -> Asker {
        Asker { sender, agent: 0 }
    }

    #[test]
    fn people_behind_one_address_are_not_added_up_and_many_agents_hide_no_scan() {
        let count = |entries: u16| {
            let mut sensitive = Sensitive::default();
            for number in 0..entries {
                let asker = Asker { sender: Sender::Client, agent: number as u8 };
                sensitive.miss(entry(number, number), asker, false);
            }
            sensitive.families(Kind::Missing, By::Client)
        };
        assert_eq!((count(3), count(7), count(12)), (1, 1, 3));
    }

    #[test]
    fn what_is_missing_of_an_application_that_is_here_does_not_count() {
        let mut sensitive = Sensitive::default();
        for number in 0..5 {
            sensitive.miss(entry(number, number / 3), by(Sender::Client), false);
        }
        let counts = |sensitive: &Sensitive| {
            (sensitive.entries(Kind::Sought, By::Client), sensitive.families(Kind::Sought, By::Client))
        };
        assert_eq!(counts(&sensitive), (5, 2));
        sensitive.meet(entry(99, 0));
        assert_eq!(counts(&sensitive), (2, 1));
        let certain = Entry { sensitivity: Sensitivity::Nowhere, ..entry(7, 0) };
        sensitive.ask(certain, by(Sender::Client));
        assert_eq!((counts(&sensitive), sensitive.entries(Kind::Certain, By::Client)), ((3, 2), 1));
        sensitive.miss(entry(8, 8), by(Sender::Client), true);
        assert_eq!((counts(&sensitive).0, sensitive.entries(Kind::Missing, By::Client)), (4, 3));
    }

    #[test]
    fn what_pages_sent_the_client_to_is_no_work_of_its_own() {
        let mut sensitive = Sensitive::default();
        for number in 0..8 {
            sensitive.miss(entry(number, number), by(Sender::OwnPage), false);
            sensitive.miss(entry(number + 100, number + 100), by(Sender::Page), false);
        }
        assert_eq!(sensitive.families(Kind::Sought, By::Client), 0);
        assert_eq!(sensitive.families(Kind::Sought, By::Anybody), 8 + 8 / super::super::OWN_WEIGHT);
    }

    #[test]
    fn entries_are_bounded() {
        let mut sensitive = Sensitive::default();
        for number in 0..1_000 {
            sensitive.ask(entry(number, number), by(Sender::Client));
            sensitive.meet(entry(number, number));
        }
        assert_eq!((sensitive.asked.len(), sensitive.here.len()), (MAX_ENTRIES, MAX_HERE));
    }
}
