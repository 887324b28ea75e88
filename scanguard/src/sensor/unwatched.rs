//! How long an interface was not watched before the agent attached its program there. Pure: times are passed in.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::words::short;

/// The program that watched an interface before this agent's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Before {
    /// Nothing that this agent found.
    Nothing,
    /// A program that an earlier agent left attached. This agent's took its place in one step.
    Replaced,
    /// Such a program, which was taken off first. It took this long until this agent's was attached.
    TakenOff(Duration),
}

/// The start of an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// When its process started, by the monotonic clock.
    pub process: Duration,
    /// When the agent before wrote its state for the last time, which it does at its end. None: there is no state.
    pub saved: Option<Timestamp>,
}

/// The time in which nobody watched an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// Its length. If the agent before was killed, this may be too much: it then ends with the last state written.
    pub length: Duration,
    since: Since,
}

/// Where the gap begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Since {
    /// There is no gap.
    Never,
    /// The program of the agent before was taken off.
    TakenOff,
    /// The agent before wrote its state; and how long after that this process started.
    Saved { at: Timestamp, own: Duration },
    /// This process started; nothing is known of an agent before.
    Process,
}

impl Gap {
    /// Of an interface, where the program was attached at `attached` by the monotonic clock. `now` and `monotonic` are
    /// the same moment, at or after that.
    pub fn new(
        before: Before,
        attached: Duration,
        start: Start,
        now: Timestamp,
        monotonic: Duration,
    ) -> Self {
        let own = attached.saturating_sub(start.process);
        let whole = start.saved.and_then(|saved| {
            let since = SignedDuration::try_from(monotonic.saturating_sub(attached)).unwrap_or_default();
            let length = Duration::try_from(now.duration_since(saved) - since).ok()?;
            Some((saved, length))
        });
        match (before, whole) {
            (Before::Replaced, _) => Self { length: Duration::ZERO, since: Since::Never },
            (Before::TakenOff(length), _) => Self { length, since: Since::TakenOff },
            // Two agents do not share a state: if it says so, the clock was set.
            (Before::Nothing, Some((at, length))) if length >= own => {
                Self { length, since: Since::Saved { at, own } }
            }
            (Before::Nothing, _) => Self { length: own, since: Since::Process },
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = short(self.length);
        match self.since {
            Since::Never => {
                f.write_str("no packet was missed: the program took the place of that of the agent before")
            }
            Since::TakenOff => {
                write!(f, "not watched for {length}, between the program of the agent before and this one")
            }
            Since::Saved { at, own } => write!(
                f,
                "not watched for at most {length}, since the agent before wrote its state at {at:.0}; {} of it since this \
                 process started",
                short(own)
            ),
            Since::Process => write!(
                f,
                "not watched for {length}, since this process started; there is no state of an agent before"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The process started at 100 s of the monotonic clock, and attached at 102 s; asked at 105 s, which is 1,000,000 s
    /// of the clock of the day.
    fn gap(before: Before, saved: Option<i64>) -> Gap {
        let start = Start { process: seconds(100), saved: saved.map(at) };
        Gap::new(before, seconds(102), start, at(0), seconds(105))
    }

    #[test]
    fn where_the_program_was_replaced_nothing_is_missed_however_long_no_agent_ran() {
        let gap = gap(Before::Replaced, Some(-5_000));
        assert_eq!(gap.length, Duration::ZERO);
        assert!(gap.to_string().starts_with("no packet was missed"), "{gap}");
    }

    #[test]
    fn the_gap_begins_where_the_agent_before_wrote_its_state_and_ends_where_the_program_is_attached() {
        let gap = gap(Before::Nothing, Some(-63));
        assert_eq!(gap.length, seconds(60));
        let said = gap.to_string();
        for part in ["at most 1m, since the agent before", "at 1970-01-12T13:45:37Z", "; 2.00 s of it since"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn without_a_state_the_gap_begins_with_the_process() {
        let gap = gap(Before::Nothing, None);
        assert_eq!(gap.length, seconds(2));
        assert!(gap.to_string().starts_with("not watched for 2.00 s, since this process started"), "{gap}");
    }

    #[test]
    fn a_state_from_after_the_start_was_written_by_a_wrong_clock_and_does_not_count() {
        for saved in [-4, 0, 7_000] {
            assert_eq!(gap(Before::Nothing, Some(saved)).length, seconds(2), "{saved}");
        }
    }

    #[test]
    fn a_program_that_was_taken_off_watched_until_then() {
        let gap = gap(Before::TakenOff(Duration::from_millis(4)), Some(-5_000));
        assert_eq!(gap.length, Duration::from_millis(4));
        assert!(gap.to_string().starts_with("not watched for 0.004 s, between"), "{gap}");
    }
}
