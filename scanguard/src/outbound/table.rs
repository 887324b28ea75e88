//! The actors that are known now, by their names in the kernel's tables. Bounded.

use std::{collections::HashMap, sync::Arc, time::Duration};

use scanguard_common::{
    actor::{Key, Kind, MAX_ACTORS},
    address::Address,
};

use super::{Actor, baseline::News, settings::Allow};

/// How many actors are known. The kernel's table is smaller, but its entries leave it while findings are open.
const MOST: usize = 2 * MAX_ACTORS as usize;

/// A port at which an actor listens, or for a control group a program in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Serves {
    /// The port.
    pub port: u16,
    /// How many networks called there in the last one to two hours.
    pub networks: u64,
}

/// An actor, with what the baseline says about it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The actor.
    pub actor: Arc<Actor>,
    /// What is new about it.
    pub news: News,
    /// Whether nothing is told of it.
    pub allowed: bool,
    /// The ports at which it calls others and is called by strangers.
    pub serves: Vec<Serves>,
    /// When it was last active.
    active: Duration,
}

impl Known {
    /// When it was last active, since the start of the agent.
    pub fn active(&self) -> Duration {
        self.active
    }
}

/// The actors.
#[derive(Debug, Default)]
pub struct Actors {
    known: HashMap<Address, Known>,
    allow: Allow,
    forgotten: u64,
}

impl Actors {
    /// Replaces the lists of those of whom nothing is told.
    pub fn set_allow(&mut self, allow: &Allow) {
        if self.allow == *allow {
            return;
        }
        self.allow.clone_from(allow);
        self.known.values_mut().for_each(|known| known.allowed = allow.has(&known.actor));
    }

    /// Takes an actor that has just done something.
    pub fn see(&mut self, actor: Actor, news: News, at: Duration) {
        let address = actor.key.address();
        if self.known.len() >= MOST && !self.known.contains_key(&address) {
            self.forget_older_half();
        }
        match self.known.get_mut(&address) {
            Some(known) => {
                known.active = at;
                known.news = news;
                // What was read before is better than nothing.
                if *known.actor != actor && (actor.process.is_some() || known.actor.process.is_none()) {
                    known.allowed = self.allow.has(&actor);
                    known.actor = Arc::new(actor);
                }
            }
            None => {
                let allowed = self.allow.has(&actor);
                self.known.insert(
                    address,
                    Known { actor: Arc::new(actor), news, allowed, serves: Vec::new(), active: at },
                );
            }
        }
    }

    /// Takes the ports of those at which an actor calls others lately that it serves.
    pub fn serves(&mut self, address: &Address, serves: Vec<Serves>) {
        if let Some(known) = self.known.get_mut(address) {
            known.serves = serves;
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<_> = self.known.values().map(|known| known.active).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let before = self.known.len();
        self.known.retain(|_, known| known.active > median);
        self.forgotten += (before - self.known.len()) as u64;
    }

    /// The actor of this name.
    pub fn get(&self, address: &Address) -> Option<&Known> {
        self.known.get(address)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// The same, or one of whom only the kind is known.
    pub fn actor(&self, address: &Address) -> Arc<Actor> {
        let known = self.get(address).map(|known| Arc::clone(&known.actor));
        known.unwrap_or_else(|| Arc::new(Actor::unknown(Key::from_address(*address))))
    }

    /// Whether nothing is told of an actor. Of a control group nothing is told either while a program in it that is
    /// allowed is active: it counts among what the group does.
    pub fn is_allowed(&self, address: &Address, at: Duration, window: Duration) -> bool {
        if self.get(address).is_some_and(|known| known.allowed) {
            return true;
        }
        let key = Key::from_address(*address);
        key.kind == Kind::Group
            && self.known.values().any(|known| {
                let is_in = known.actor.key.group == key.group && known.actor.key.kind == Kind::Program;
                is_in && known.allowed && at.saturating_sub(known.active) <= window
            })
    }

    /// How many actors are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::identity::testing::Draft;

    fn of_group(group: u64, kind: Kind, path: &str) -> Actor {
        let actor = Draft::new(path, "/system.slice/web.service").actor(kind);
        Actor { key: Key { group, ..actor.key }, ..actor }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_quiet_longest() {
        let mut actors = Actors::default();
        let most = u64::try_from(MOST).unwrap();
        for group in 1..=2 * most {
            actors.see(Actor::unknown(Key::of_group(group)), News::default(), Duration::from_millis(group));
            assert!(actors.len() <= MOST);
        }
        assert!(actors.get(&Key::of_group(2 * most).address()).is_some());
        assert!(actors.get(&Key::of_group(1).address()).is_none());
        assert!(actors.forgotten() >= most);
    }

    #[test]
    fn what_is_known_is_not_replaced_by_nothing() {
        let mut actors = Actors::default();
        let actor = of_group(5, Kind::Program, "/usr/bin/x");
        actors.see(actor.clone(), News::default(), Duration::ZERO);
        actors.see(Actor::unknown(actor.key), News::default(), Duration::ZERO);
        assert_eq!(*actors.actor(&actor.key.address()), actor);
    }

    #[test]
    fn a_group_is_not_told_while_an_allowed_program_in_it_is_active() {
        let mut actors = Actors::default();
        let allow = Allow { units: Vec::new(), executables: vec![glob::Pattern::new("/usr/bin/x").unwrap()] };
        actors.set_allow(&allow);
        actors.see(of_group(5, Kind::Program, "/usr/bin/x"), News::default(), Duration::from_secs(10));
        actors.see(of_group(5, Kind::Group, "/usr/bin/y"), News::default(), Duration::from_secs(10));
        let group = Key::of_group(5).address();
        let window = Duration::from_secs(60);
        assert!(actors.is_allowed(&group, Duration::from_secs(60), window));
        assert!(!actors.is_allowed(&group, Duration::from_secs(80), window));
        assert!(!actors.is_allowed(&Key::of_group(6).address(), Duration::from_secs(60), window));
    }
}
