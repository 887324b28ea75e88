//! Names of hosts that the servers here serve, as far as answers show it: a name is one if another client was served
//! under it. Its own requests vouch for nobody: a scanner could ask for what the server has under every name first.

use std::{collections::HashMap, time::Duration};

use scanguard_common::address::Address;

/// How many names are remembered.
const MAX_NAMES: usize = 4_096;

/// The clients that were served under a name.
struct Clients {
    first: Address,
    /// Whether there was another one.
    several: bool,
    last: Duration,
}

/// The names, by their salted hashes.
#[derive(Default)]
pub(super) struct Served(HashMap<u64, Clients>);

impl Served {
    /// A client was served under this name, within a connection.
    pub(super) fn note(&mut self, name: u64, client: &Address, at: Duration) {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(&name) {
            self.make_room();
        }
        let clients = self.0.entry(name).or_insert(Clients { first: *client, several: false, last: at });
        clients.several |= clients.first != *client;
        clients.last = at;
    }

    /// Whether somebody else was served under this name.
    pub(super) fn is_served_to_others(&self, name: u64, client: &Address) -> bool {
        self.0.get(&name).is_some_and(|clients| clients.several || clients.first != *client)
    }

    /// Forgets half: first names under which a single client was served, then those that were served longest ago. So one
    /// client that makes up names pushes out no others.
    fn make_room(&mut self) {
        let mut ranks: Vec<_> =
            self.0.iter().map(|(name, clients)| (clients.several, clients.last, *name)).collect();
        let half = ranks.len() / 2;
        ranks.select_nth_unstable(half);
        for (.., name) in ranks.into_iter().take(half) {
            self.0.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn nobody_vouches_for_his_own_names_and_made_up_names_push_out_no_others() {
        let client = |last: u8| Ipv4Addr::new(192, 0, 2, last).into();
        let (mut served, at) = (Served::default(), Duration::ZERO);
        served.note(1, &client(1), at);
        assert!(!served.is_served_to_others(1, &client(1)) && served.is_served_to_others(1, &client(2)));
        served.note(1, &client(2), at);
        assert!(served.is_served_to_others(1, &client(1)) && !served.is_served_to_others(2, &client(1)));
        for name in 10..20_000 {
            served.note(name, &client(3), Duration::from_secs(name));
        }
        assert!(served.is_served_to_others(1, &client(3)) && served.0.len() <= MAX_NAMES);
    }
}
