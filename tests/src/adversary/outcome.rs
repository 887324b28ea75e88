//! The outcome of a row.

use std::{fmt, time::Duration};

use anyhow::Result;

use super::{Expect, Row};

/// Whether what must hold held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It did.
    Held,
    /// It did not; what was seen.
    Broken(String),
}

impl Verdict {
    /// Held where nothing is wrong.
    pub fn of(wrong: &[String]) -> Self {
        if wrong.is_empty() { Self::Held } else { Self::Broken(wrong.join("; ")) }
    }
}

/// The verdict against what the row says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It holds, as is said.
    Holds,
    /// It does not, as is said; what was seen.
    Limit(String),
    /// It does not, though it is said to hold; what was seen.
    Broken(String),
    /// It holds, though it is said to be a limit.
    Mended,
    /// It could not be played.
    Failed(String),
}

/// The outcome of a row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In a word.
    pub state: State,
    took: Duration,
}

impl Outcome {
    /// Judges.
    pub fn new(row: &Row, verdict: Result<Verdict>, took: Duration) -> Self {
        let state = match (row.expect, verdict) {
            (_, Err(error)) => State::Failed(format!("{error:#}")),
            (Expect::Holds, Ok(Verdict::Held)) => State::Holds,
            (Expect::Holds, Ok(Verdict::Broken(seen))) => State::Broken(seen),
            (Expect::Limit(_), Ok(Verdict::Held)) => State::Mended,
            (Expect::Limit(_), Ok(Verdict::Broken(seen))) => State::Limit(seen),
        };
        Self { state, took }
    }

    /// Whether it is as the row says.
    pub fn is_as_expected(&self) -> bool {
        match self.state {
            State::Holds | State::Limit(_) => true,
            State::Broken(_) | State::Mended | State::Failed(_) => false,
        }
    }

    /// For people.
    pub fn label(&self) -> &'static str {
        match self.state {
            State::Holds => "holds",
            State::Limit(_) => "limit",
            State::Broken(_) => "BROKEN",
            State::Mended => "MENDED",
            State::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Holds => {}
            State::Limit(seen) | State::Broken(seen) | State::Failed(seen) => write!(f, "{seen}; ")?,
            State::Mended => f.write_str("it holds, and is said to be a limit; ")?,
        }
        write!(f, "took {} s", self.took.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(expect: Expect, verdict: Result<Verdict>) -> (&'static str, bool) {
        let row = Row { expect, ..super::super::all().next().unwrap() };
        let outcome = Outcome::new(&row, verdict, Duration::ZERO);
        (outcome.label(), outcome.is_as_expected())
    }

    #[test]
    fn a_row_is_as_expected_if_it_holds_or_is_a_limit_that_does_not() {
        let broken = || Ok(Verdict::of(&["the client is banned".to_owned()]));
        assert_eq!(state(Expect::Holds, Ok(Verdict::of(&[]))), ("holds", true));
        assert_eq!(state(Expect::Holds, broken()), ("BROKEN", false));
        assert_eq!(state(Expect::Limit("why"), broken()), ("limit", true));
        assert_eq!(state(Expect::Limit("why"), Ok(Verdict::Held)), ("MENDED", false));
    }

    #[test]
    fn a_row_that_could_not_be_played_has_failed() {
        for expect in [Expect::Holds, Expect::Limit("why")] {
            assert_eq!(state(expect, Err(anyhow::anyhow!("no tool"))), ("FAILED", false));
        }
    }
}
