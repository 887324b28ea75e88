//! Whether the answers to probes are seen.
//!
//! A SYN of which no answer left met no service, unless the answer left by another way: by an interface that is not
//! watched, or by another router. Then every client would seem to be left without answers. The clients themselves show
//! it: a connection cannot be completed without a SYN and ACK before it.

use std::time::Duration;

use super::activity::Totals;

/// The time that a host may take to answer a SYN, as seen from here. A SYN and ACK that is lost is sent again after one
/// second, and then after two more (RFC 6298).
pub const HANDSHAKE: Duration = Duration::from_secs(3);

/// So many sources whose connections came about without an answer that was seen are enough to believe them.
const LEAST: u64 = 3;
/// And at least one in so many of all sources with connections.
const SHARE: u64 = 8;
/// After so many sources, the counts are halved: the newest weigh most.
const MOST: u64 = 1_024;

/// Counts which sources with connections were answered where it was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    seen: u64,
    unseen: u64,
}

impl Answers {
    /// Takes the counters of a source that has just completed a connection with a service of this host.
    pub(super) fn connected(&mut self, totals: &Totals) {
        if totals.was_answered() {
            self.seen += 1;
        } else {
            self.unseen += 1;
        }
        if self.seen + self.unseen >= MOST {
            self.seen /= 2;
            self.unseen /= 2;
        }
    }

    /// Whether the answers to probes are seen, as far as anybody has shown.
    pub fn are_seen(&self) -> bool {
        self.unseen < LEAST || self.unseen * SHARE < self.seen
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{account::SourceState, outcome::Answer};

    use super::*;

    fn after(seen: u32, unseen: u32) -> bool {
        let mut answers = Answers::default();
        let mut state = SourceState::new(1, 1);
        for _ in 0..unseen {
            answers.connected(&Totals::from(&state));
        }
        state.answers[Answer::SynAck.index()] = 1;
        for _ in 0..seen {
            answers.connected(&Totals::from(&state));
        }
        answers.are_seen()
    }

    #[test]
    fn answers_are_seen_unless_connections_come_about_without_them() {
        for (seen, unseen, expected) in [
            (0, 0, true),
            (0, 2, true),
            (0, 3, false),
            (20, 3, false),
            (25, 3, true),
            (1_000, 100, true),
            (400, 400, false),
        ] {
            assert_eq!(after(seen, unseen), expected, "{seen} seen, {unseen} not");
        }
    }

    #[test]
    fn a_route_that_changes_is_noticed_after_many_sources_too() {
        let mut answers = Answers::default();
        let mut state = SourceState::new(1, 1);
        state.answers[Answer::SynAck.index()] = 1;
        for _ in 0..100_000 {
            answers.connected(&Totals::from(&state));
        }
        state.answers = Default::default();
        for _ in 0..MOST {
            answers.connected(&Totals::from(&state));
        }
        assert!(!answers.are_seen());
    }
}
