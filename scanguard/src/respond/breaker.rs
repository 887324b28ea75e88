//! The circuit breaker: it limits the bans by rules within one minute. If rules would ban half the world, a mistake or
//! forged addresses are more likely than half the world scanning.

use std::{collections::VecDeque, time::Duration};

/// The time over which bans are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The times of the latest bans: at most as many as are allowed in a minute.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    recent: VecDeque<Duration>,
    open: bool,
}

impl Breaker {
    /// Bans within the last minute.
    pub fn recent(&self, at: Duration) -> u32 {
        let recent = self.recent.iter().filter(|made| at.saturating_sub(**made) < WINDOW).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Whether one more ban is too many.
    pub fn is_full(&self, at: Duration, max: u32) -> bool {
        self.recent(at) >= max
    }

    /// Records a ban.
    pub fn made(&mut self, at: Duration, max: u32) {
        self.recent.push_back(at);
        while self.recent.len() > max as usize
            || self.recent.front().is_some_and(|made| at.saturating_sub(*made) >= WINDOW)
        {
            self.recent.pop_front();
        }
    }

    /// Trips the breaker. Returns whether it had not tripped before.
    pub fn trip(&mut self) -> bool {
        !std::mem::replace(&mut self.open, true)
    }

    /// Whether it has tripped, and the mode was not set since.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Starts counting again, because a user set the mode.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_made_within_any_minute_and_no_more_are_remembered() {
        let at = Duration::from_secs;
        let mut breaker = Breaker::default();
        for second in 0..3 {
            assert!(!breaker.is_full(at(second), 3));
            breaker.made(at(second), 3);
        }
        assert!(breaker.is_full(at(59), 3) && breaker.recent(at(59)) == 3);
        assert!(!breaker.is_full(at(60), 3) && breaker.recent(at(60)) == 2);
        breaker.made(at(60), 3);
        assert_eq!(breaker.recent.len(), 3);
        assert!(breaker.trip() && !breaker.trip() && breaker.is_open());
        breaker.reset();
        assert!(!breaker.is_open() && breaker.recent(at(60)) == 0);
    }
}
