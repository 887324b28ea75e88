//! Kinds of attacks in requests, and how many of them a client tried at once.
//!
//! Somebody who searches for one of them, or a broken link, makes one kind. Tools that want to know what a server lets
//! through (wafw00f, nuclei, nikto) try several within seconds.

use std::time::Duration;

/// A kind of attack in a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attack {
    /// A way out of the directory.
    Traversal,
    /// A look-up by JNDI (Log4Shell).
    Jndi,
    /// A part of SQL.
    Sql,
    /// A script for browsers.
    Script,
    /// A command, a file of the system, or code for the server.
    Command,
}

/// The kinds of attacks in a request: a bit for each [`Attack`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attacks(u8);

impl Attacks {
    /// These kinds.
    pub fn of(kinds: impl IntoIterator<Item = Attack>) -> Self {
        kinds.into_iter().fold(Self::default(), |mut all, kind| {
            all.add(kind);
            all
        })
    }

    /// Adds a kind.
    pub(super) fn add(&mut self, kind: Attack) {
        self.0 |= 1 << kind as u8;
    }

    /// Adds those of another.
    pub(super) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// Attacks belong together if they come within so much time: a tool sends its tests without a pause, and nobody types three
/// of them meanwhile.
const SLICE: Duration = Duration::from_secs(5);

/// The most kinds of attacks that a client tried within [`SLICE`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtOnce {
    began: Duration,
    kinds: Attacks,
    most: u32,
}

impl AtOnce {
    pub(super) const EMPTY: Self = Self { began: Duration::ZERO, kinds: Attacks(0), most: 0 };

    pub(super) fn add(&mut self, attacks: Attacks, at: Duration) {
        if attacks == Attacks::default() {
            return;
        }
        if at.saturating_sub(self.began) >= SLICE {
            (self.began, self.kinds) = (at, Attacks::default());
        }
        self.kinds.join(attacks);
        self.most = self.most.max(self.kinds.count());
    }

    pub(super) fn most(&self) -> u64 {
        self.most.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_count_together_if_they_come_within_seconds() {
        let most = |tries: &[(u64, Attack)]| {
            let mut at_once = AtOnce::EMPTY;
            for (second, attack) in tries {
                at_once.add(Attacks::of([*attack]), Duration::from_secs(100 + second));
            }
            at_once.most()
        };
        use Attack::{Jndi, Script, Sql};
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[(0, Sql), (1, Sql), (2, Sql)]), 1);
        assert_eq!(most(&[(0, Sql), (1, Script), (4, Jndi)]), 3);
        assert_eq!(most(&[(0, Sql), (6, Script), (12, Jndi)]), 1);
        assert_eq!(most(&[(0, Sql), (1, Script), (60, Jndi)]), 2, "the most at once stays");
    }
}
