//! Distinct names that one source asked for (virtual hosts, DNS names), and which of them have the same parent.
//!
//! A client that guesses names guesses them under one parent. A resolver, or a crawler of many sites, asks for names
//! of many parents. The parent is the name without its first label. This needs no list of public suffixes, and a sweep
//! of reverse names (`7.2.0.192.in-addr.arpa`) has one parent for each /24.

use std::{hash::BuildHasher, net::IpAddr, time::Duration};

use super::{burst, identifier::is_identifier};
use crate::observe::distinct::{Estimate, Sketch};

/// For how many parents names are counted separately. A further one replaces the one with the fewest requests: a
/// client that guesses asks for one parent again and again.
const MAX_PARENTS: usize = 8;

/// The hashes of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    name: u64,
    parent: u64,
}

impl Key {
    /// The hash of the whole name.
    pub(super) const fn name(self) -> u64 {
        self.name
    }
}

/// The parent, under which the first label was chosen. A name of one or two labels is its own parent.
pub fn parent(name: &str) -> &str {
    match name.split_once('.') {
        Some((_, rest)) if rest.contains('.') => rest,
        Some(_) | None => name,
    }
}

/// The hashes of a name; nothing for an address.
pub(super) fn key(name: &str, salt: &impl BuildHasher) -> Option<Key> {
    let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
    (!is_address && !name.is_empty())
        .then(|| Key { name: salt.hash_one(name), parent: salt.hash_one(parent(name)) })
}

/// The evidence about its parent in a DNS name that does not exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denial {
    /// Nothing: nobody guesses such a name.
    Unguessable,
    /// The parent exists, as far as is known.
    UnderZone,
    /// The parent may not exist either: a zone further up denied the name.
    UnderUnknown,
}

/// What it tells that this zone (none: it is not known) denied a name.
pub(super) fn denial(name: &str, zone: Option<&str>) -> Denial {
    match zone {
        _ if name.split('.').next().is_some_and(is_identifier) => Denial::Unguessable,
        Some(zone) if zone != parent(name) => Denial::UnderUnknown,
        Some(_) | None => Denial::UnderZone,
    }
}

/// Names with the same parent.
#[derive(Clone, Debug)]
pub struct Siblings {
    key: u64,
    /// The text of the parent, unless names are redacted.
    pub parent: Option<Box<str>>,
    /// How often these names were requested.
    pub asked: u64,
    names: Sketch<4>,
    missed: Sketch<4>,
    /// DNS names that a blocklist lists.
    listed: Sketch<1>,
    /// Whether another DNS name exists.
    has_names: bool,
    /// Whether the parent is a zone, or may be one: names directly under it were denied.
    is_zone: bool,
    burst: burst::Names,
}

impl Siblings {
    /// Distinct names.
    pub fn names(&self) -> Estimate {
        self.names.count().at_most(self.asked)
    }

    /// Distinct names that do not exist.
    pub fn missed(&self) -> Estimate {
        self.missed.count().at_most(self.asked)
    }

    /// Whether guessed DNS names under this parent can succeed. The parent is a zone, or one of the names exists.
    /// Otherwise the parent itself may not exist, as with search domains (`example.com.corp.example`), and nothing
    /// under it does. Names that a blocklist lists are no hosts.
    pub fn has_room(&self) -> bool {
        self.has_names || (self.is_zone && self.listed == Sketch::EMPTY)
    }

    /// Names that were requested in a burst, as only list tools do.
    pub fn in_burst(&self) -> u64 {
        self.burst.guessed(self.names.count().value)
    }

    /// " of example.org", or nothing if names are redacted.
    pub fn whose(&self) -> String {
        self.parent.as_deref().map(|parent| format!(" of {parent}")).unwrap_or_default()
    }
}

/// Distinct names.
#[derive(Clone, Debug)]
pub struct Names {
    all: Sketch<4>,
    missed: Sketch<4>,
    parents: Vec<Siblings>,
}

impl Names {
    /// No name.
    pub(super) const EMPTY: Self = Self { all: Sketch::EMPTY, missed: Sketch::EMPTY, parents: Vec::new() };

    /// All distinct names, of any parent.
    pub fn all(&self) -> Estimate {
        self.all.count()
    }

    /// Those that do not exist.
    pub fn missed(&self) -> Estimate {
        self.missed.count()
    }

    /// Names by parent, for the parents with most requests.
    pub fn by_parent(&self) -> impl Iterator<Item = &Siblings> {
        self.parents.iter()
    }

    /// Forgets the texts of parents.
    pub(super) fn redact(&mut self) {
        self.parents.iter_mut().for_each(|siblings| siblings.parent = None);
    }

    /// A request for a name. `spelt` is the name, unless names are redacted.
    pub(super) fn ask(&mut self, key: Key, spelt: Option<&str>, at: Duration) {
        self.all.add(key.name);
        let place = self.parents.iter().position(|siblings| siblings.key == key.parent);
        let siblings = match place {
            Some(place) => &mut self.parents[place],
            None => {
                if self.parents.len() == MAX_PARENTS {
                    // Of those with the fewest requests, the first is the one seen least recently: new ones are at the
                    // end.
                    let least = self.parents.iter().enumerate().min_by_key(|(_, siblings)| siblings.asked);
                    let least = least.map_or(0, |(place, _)| place);
                    self.parents.remove(least);
                }
                let parent = spelt.map(|name| super::text::printable(parent(name)));
                self.parents.push_mut(Siblings {
                    key: key.parent,
                    parent,
                    asked: 0,
                    names: Sketch::EMPTY,
                    missed: Sketch::EMPTY,
                    listed: Sketch::EMPTY,
                    has_names: false,
                    is_zone: false,
                    burst: burst::Names::default(),
                })
            }
        };
        siblings.burst.ask(siblings.names.count().value, at);
        siblings.asked += 1;
        siblings.names.add(key.name);
    }

    /// A requested name does not exist.
    pub(super) fn miss(&mut self, key: Key, denial: Denial) {
        self.missed.add(key.name);
        if let Some(siblings) = self.siblings_of(key)
            && denial != Denial::Unguessable
        {
            siblings.is_zone |= denial == Denial::UnderZone;
            siblings.missed.add(key.name);
        }
    }

    /// A requested name exists. `is_listing` says whether a blocklist lists it.
    pub(super) fn find(&mut self, key: Key, is_listing: bool) {
        if let Some(siblings) = self.siblings_of(key) {
            if is_listing {
                siblings.listed.add(key.name);
            }
            // A listed name has a text besides its address.
            siblings.has_names |= !siblings.listed.may_have(key.name);
        }
    }

    fn siblings_of(&mut self, key: Key) -> Option<&mut Siblings> {
        self.parents.iter_mut().find(|siblings| siblings.key == key.parent)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn the_parent_is_what_the_first_label_was_put_before() {
        for (name, expected) in [
            ("www.example.org", "example.org"),
            ("a.example.co.uk", "example.co.uk"),
            ("a.b.example.org", "b.example.org"),
            ("example.org", "example.org"),
            ("org", "org"),
            ("", ""),
            ("7.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa"),
        ] {
            assert_eq!(parent(name), expected, "{name}");
        }
        for address in ["192.0.2.1", "[2001:db8::1]", "2001:db8::1", ""] {
            assert!(key(address, &RandomState::new()).is_none(), "{address}");
        }
    }

    #[test]
    fn guessed_names_stand_out_among_those_of_many_parents_in_bounded_memory() {
        let (salt, mut names) = (RandomState::new(), Names::EMPTY);
        let mut ask = |name: &str| names.ask(key(name, &salt).expect("a name"), Some(name), Duration::ZERO);
        for step in 0..200 {
            for other in 0..5 {
                ask(&format!("www.other{other}-{step}.example"));
            }
            ask(&format!("host{step}.example.org"));
            ask(&format!("mail{step}.example.org"));
        }
        let most = names.by_parent().max_by_key(|siblings| siblings.asked).expect("some were asked for");
        assert_eq!(most.parent.as_deref(), Some("example.org"));
        assert!((300..=400).contains(&most.names().value), "{}", most.names());
        assert_eq!(names.parents.len(), MAX_PARENTS);
    }
}
