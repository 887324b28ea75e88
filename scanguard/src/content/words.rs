//! Paths that were missing, as far as they may be words of a list.
//!
//! List tools ask by GET, or by what they are told. But DELETE, PROPFIND, PUT and their like are the work of clients that
//! keep things here: they look for names of their own, and delete what may be gone. And a client that copies things asks
//! by HEAD for all of them, before it puts there those that are missing.

use super::{Oddity, Request};
use crate::observe::distinct::Sketch;

/// Of paths that are asked for by HEAD, so many count as one word.
const HEADS: u64 = 4;
/// The same for methods that no list tool uses by itself, if there are no words.
const OTHERS: u64 = 16;

/// How a path was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Means {
    /// As list tools do: by GET or POST, or by a method that HTTP does not have.
    Guess,
    /// By HEAD.
    Head,
    /// By another method.
    Other,
}

impl Means {
    /// Of a request.
    pub(super) fn of(request: &Request) -> Self {
        match &*request.method {
            "HEAD" => Self::Head,
            "" | "GET" | "POST" => Self::Guess,
            _ if request.oddities.contains(&Oddity::Method) => Self::Guess,
            _ => Self::Other,
        }
    }
}

/// Distinct paths by the means by which they were asked for.
#[derive(Clone, Debug)]
pub struct Words {
    guesses: Sketch<8>,
    heads: Sketch<8>,
    others: Sketch<8>,
}

impl Words {
    /// None.
    pub(super) const EMPTY: Self =
        Self { guesses: Sketch::EMPTY, heads: Sketch::EMPTY, others: Sketch::EMPTY };

    pub(super) fn add(&mut self, means: Means, path: u64) {
        match means {
            Means::Guess => self.guesses.add(path),
            Means::Head => self.heads.add(path),
            Means::Other => self.others.add(path),
        }
    }

    /// How many paths there are, whatever the means.
    pub(super) fn paths(&self) -> u64 {
        [&self.guesses, &self.heads, &self.others].map(|all| all.count().value).iter().sum()
    }

    /// How many words they are worth. Other methods that are mixed with guesses count as these do: one of them for each
    /// guess.
    pub fn count(&self) -> u64 {
        let [guesses, heads, others] =
            [&self.guesses, &self.heads, &self.others].map(|all| all.count().value);
        guesses + heads / HEADS + others.min(guesses).max(others / OTHERS)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

    use super::*;

    #[test]
    fn words_are_what_list_tools_ask_for() {
        let hash = |thing: u64| BuildHasherDefault::<DefaultHasher>::default().hash_one(thing);
        let count = |[guesses, heads, others]: [u64; 3]| {
            let mut words = Words::EMPTY;
            for (means, many) in [(Means::Guess, guesses), (Means::Head, heads), (Means::Other, others)] {
                (0..many).for_each(|path| words.add(means, hash(path)));
            }
            words.count()
        };
        let near = |counted: u64, expected: u64| counted.abs_diff(expected) <= expected / 8;
        assert!(near(count([100, 0, 0]), 100));
        assert!(near(count([0, 400, 0]), 100));
        assert!(near(count([0, 0, 800]), 50));
        assert!(near(count([50, 0, 50]), 100), "mixed with guesses");
        assert!(near(count([50, 0, 400]), 100));
    }

    #[test]
    fn means_follow_from_the_method() {
        let of = |method: &str| {
            Means::of(&super::super::target::examine(method, "/", &super::super::target::Headers::default()))
        };
        for (method, expected) in [
            ("GET", Means::Guess),
            ("POST", Means::Guess),
            ("FOO", Means::Guess),
            ("get", Means::Guess),
            ("HEAD", Means::Head),
            ("DELETE", Means::Other),
            ("PROPFIND", Means::Other),
            ("OPTIONS", Means::Other),
            ("PUT", Means::Other),
        ] {
            assert_eq!(of(method), expected, "{method}");
        }
    }
}
