//! Time, which callers pass to the pure parts: these never ask for it themselves.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// Time since the agent (or the capture) started. It never goes back. Windows use this clock.
    pub at: Duration,
    /// Time of day, for people.
    pub wall: Timestamp,
}

impl Now {
    /// The time of day of an earlier moment, by today's clock.
    pub fn wall_of(&self, at: Duration) -> Timestamp {
        let ago = SignedDuration::try_from(self.at.saturating_sub(at)).unwrap_or(SignedDuration::MAX);
        self.wall.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }
}

/// The kernel's monotonic clock, which the program also uses.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the given structure; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The clocks of this host.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Time starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now { at: self.started.elapsed(), wall: Timestamp::now() }
    }
}
