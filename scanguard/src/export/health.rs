//! Whether the agent works, for who asks at /healthz and /readyz. Time is passed in.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A main loop that has not polled for so long is stuck, however often it is to poll; the largest table takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// It is also given so many poll intervals.
const INTERVALS: u32 = 3;

/// What the rest of the agent says about itself.
#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    attached: bool,
    /// When it polled last, or began.
    polled: Instant,
    /// Whether that worked; none: it has not polled yet.
    worked: Option<bool>,
    /// How long it may take to poll again.
    patience: Duration,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwell {
    /// The main loop does not go round.
    #[error("the main loop is stuck: there was no poll for {} s", .0.as_secs())]
    Stuck(Duration),
    /// No packet is seen.
    #[error("not attached to any interface")]
    Detached,
    /// It has just begun.
    #[error("there was no poll yet")]
    Starting,
    /// The maps could not be read.
    #[error("the last poll did not work")]
    PollFailed,
}

impl Health {
    /// Of an agent that begins now.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { attached: false, polled: now, worked: None, patience: PATIENCE }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the program is attached to at least one interface.
    pub fn attached(&self, attached: bool) {
        self.state().attached = attached;
    }

    /// It polled, and will again after `interval`.
    pub fn polled(&self, now: Instant, worked: bool, interval: Duration) {
        let mut state = self.state();
        state.polled = now;
        state.worked = Some(worked);
        state.patience = PATIENCE.max(INTERVALS * interval);
    }

    /// Whether the main loop goes round.
    ///
    /// # Errors
    /// [`Unwell::Stuck`].
    pub fn alive(&self, now: Instant) -> Result<(), Unwell> {
        let state = self.state();
        let since = now.saturating_duration_since(state.polled);
        if since > state.patience { Err(Unwell::Stuck(since)) } else { Ok(()) }
    }

    /// Whether packets are seen and counted.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, now: Instant) -> Result<(), Unwell> {
        self.alive(now)?;
        let state = self.state();
        match (state.attached, state.worked) {
            (false, _) => Err(Unwell::Detached),
            (true, None) => Err(Unwell::Starting),
            (true, Some(false)) => Err(Unwell::PollFailed),
            (true, Some(true)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ready_is_who_is_attached_and_whose_last_poll_worked() {
        let now = Instant::now();
        let health = Health::new(now);
        assert_eq!(health.ready(now), Err(Unwell::Detached));
        health.attached(true);
        assert_eq!(health.ready(now), Err(Unwell::Starting));
        health.polled(now, false, SECOND);
        assert_eq!(health.ready(now), Err(Unwell::PollFailed));
        health.polled(now, true, SECOND);
        assert_eq!(health.ready(now), Ok(()));
        health.attached(false);
        assert_eq!((health.ready(now), health.alive(now)), (Err(Unwell::Detached), Ok(())));
    }

    #[test]
    fn a_main_loop_that_does_not_poll_is_stuck_until_it_does() {
        let start = Instant::now();
        let health = Health::new(start);
        health.attached(true);
        // The first poll is waited for as well.
        assert_eq!(health.alive(start + 31 * SECOND), Err(Unwell::Stuck(31 * SECOND)));
        health.polled(start + 31 * SECOND, true, SECOND);
        assert_eq!(health.ready(start + 61 * SECOND), Ok(()));
        let stuck = Err(Unwell::Stuck(31 * SECOND));
        assert_eq!((health.alive(start + 62 * SECOND), health.ready(start + 62 * SECOND)), (stuck, stuck));
        health.polled(start + 62 * SECOND, true, SECOND);
        assert_eq!(health.alive(start + 62 * SECOND), Ok(()));
    }

    #[test]
    fn who_polls_seldom_is_waited_for_longer() {
        let start = Instant::now();
        let health = Health::new(start);
        health.polled(start, true, 20 * SECOND);
        assert_eq!(health.alive(start + 60 * SECOND), Ok(()));
        assert_eq!(health.alive(start + 61 * SECOND), Err(Unwell::Stuck(61 * SECOND)));
    }
}
