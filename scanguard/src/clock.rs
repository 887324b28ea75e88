//! Time, which callers pass to the pure parts: these never ask for it themselves.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use procfs::process::Process;

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
    read(libc::CLOCK_MONOTONIC)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the given structure; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// When this process started, by the clock of [`monotonic`]. None if the kernel does not say; to 10 ms.
pub fn process_start() -> Option<Duration> {
    let ticks = Process::myself().and_then(|process| process.stat()).ok()?.starttime;
    let started = Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64);
    // The kernel counts it since it has booted; the other clock stands still while the host sleeps.
    let age = read(libc::CLOCK_BOOTTIME).saturating_sub(started);
    Some(monotonic().saturating_sub(age))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_started_before_now_and_not_long_ago() {
        let age = monotonic() - process_start().unwrap();
        assert!(age < Duration::from_mins(30), "{age:?}");
        std::thread::sleep(Duration::from_millis(30));
        // It is the same moment whenever it is asked for.
        let later = monotonic() - process_start().unwrap();
        assert!(later > age && later < age + Duration::from_secs(5), "{age:?}, then {later:?}");
    }
}
