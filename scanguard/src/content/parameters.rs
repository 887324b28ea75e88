//! Names of parameters that a client guesses (arjun, x8, ffuf with `?FUZZ=1`).
//!
//! A site has some dozens of names. A client that follows links meets a new one now and then, and asks with each of them
//! again and again. Beacons have a hundred and more, but the same in each request. A client that guesses has new ones in
//! nearly each request. Names are counted whether or not something came of them: servers answer all alike.

use std::{
    borrow::Cow,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use percent_encoding::percent_decode_str;

use super::{identifier, sender::Sender, sensitive::By, sent::Sent};

/// How many names of a request are kept.
const MAX_NAMES: usize = 64;
/// A name that is longer than this is none that somebody wrote.
const MAX_NAME: usize = 64;
/// At least so many requests had names that were new: a beacon has many new ones in its first requests.
const FRESH: u64 = 20;
/// Of the requests with names, at least one of so many had new ones.
const FRESH_ONE_OF: u64 = 2;

/// Unsalted hashes of the names of the parameters in a query.
///
/// Text in brackets or behind a dot belongs to data (`filter[12]`, `ep.user`), and so do numbers within a name: names
/// that differ only in these are one. Identifiers of machines (`?1700000000000=`) are no names.
pub(super) fn names(query: &str) -> Vec<u64> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let named = query.split(['&', ';']).filter_map(|parameter| parameter.split_once('='));
    named.filter_map(|(name, _)| shape(name)).take(MAX_NAMES).map(|name| hasher.hash_one(name)).collect()
}

fn shape(name: &str) -> Option<String> {
    let name: Cow<'_, str> = percent_decode_str(name).decode_utf8_lossy();
    let name = name.split(['[', '.', ':']).next().unwrap_or_default();
    let letters = name.chars().filter(|char| char.is_alphabetic()).count();
    // Less than two letters: a place in a list, or a short name that tells nothing.
    if letters < 2 || name.len() > MAX_NAME || identifier::is_identifier(name) {
        return None;
    }
    let mut shape = String::with_capacity(name.len());
    for char in name.chars().flat_map(char::to_lowercase) {
        let char = if char.is_ascii_digit() { '0' } else { char };
        if char != '0' || !shape.ends_with('0') {
            shape.push(char);
        }
    }
    Some(shape)
}

/// The names of the parameters in a client's requests.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    names: Sent<4>,
    /// Requests with names.
    requests: u64,
    /// Those that had new ones.
    fresh: u64,
}

impl Parameters {
    pub(super) const EMPTY: Self = Self { names: Sent::EMPTY, requests: 0, fresh: 0 };

    /// A request with names, by their salted hashes.
    pub(super) fn ask(&mut self, sender: Sender, names: &[u64]) {
        let mut is_fresh = false;
        for name in names {
            is_fresh |= !self.names.may_have(*name);
            self.names.add(sender, *name);
        }
        self.requests += u64::from(!names.is_empty());
        self.fresh += u64::from(is_fresh);
    }

    /// How many distinct names were guessed; 0 if the client asks with the same ones again and again.
    pub(super) fn guessed(&self, by: By) -> u64 {
        let are_guesses = self.fresh >= FRESH && self.fresh * FRESH_ONE_OF >= self.requests;
        if are_guesses { self.names.count(by) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_somebody_wrote() {
        let rows = [
            ("", 0),
            ("x", 0),
            ("=1", 0),
            ("a=1&b=2", 0),
            ("id=1&page=2", 2),
            ("ID=1&id=2", 1),
            ("attr_12=1&attr_7=2", 1),
            ("filter[12]=1&filter[color]=2&filter%5Bsize%5D=3", 1),
            ("ep.one=1&ep.two=2", 1),
            ("1700000000000=1", 0),
            ("5f4dcc3b5aa765d61d8327deb882cf99=1", 0),
        ];
        for (query, expected) in rows {
            let mut names = names(query);
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), expected, "{query}");
        }
        assert_eq!(names(&"name=1&".repeat(1_000)).len(), MAX_NAMES);
        assert!(names(&format!("{}=1", "n".repeat(1_000))).is_empty());
    }

    /// Hashes that are spread.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ number.wrapping_mul(0x0dbd_a4d1_96b5_1337).rotate_left(32)
    }

    #[test]
    fn names_are_guessed_if_nearly_each_request_has_new_ones() {
        let guessed = |requests: u64, names: fn(u64) -> Vec<u64>| {
            let mut parameters = Parameters::EMPTY;
            for request in 0..requests {
                let names: Vec<_> = names(request).into_iter().map(hash).collect();
                parameters.ask(Sender::Client, &names);
            }
            parameters.guessed(By::Client)
        };
        assert!(guessed(150, |request| vec![request]) > 120, "one each");
        assert!(guessed(150, |request| vec![1, 2, 1_000 + request]) > 120, "beside the same ones");
        assert!(guessed(25, |request| (0..40).map(|name| request * 40 + name).collect()) > 200, "chunks");
        assert_eq!(guessed(1_000, |_| (0..150).collect()), 0, "a beacon");
        assert_eq!(guessed(3_000, |request| vec![request % 150, 1_000]), 0, "a crawler of a shop");
        assert_eq!(
            guessed(3, |request| (0..100).map(|name| request * 100 + name).collect()),
            0,
            "a few forms"
        );
    }
}
