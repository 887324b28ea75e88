//! The agent's health, for requests to /healthz and /readyz. Time is passed in.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A main loop that has not polled for this long is stuck, however long the interval; the largest table takes a few
/// seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// The main loop also gets this many poll intervals.
const INTERVALS: u32 = 3;

/// The state that the rest of the agent reports.
#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    attached: bool,
    /// The interfaces that are waited for, in words.
    waiting: Option<String>,
    /// When the agent polled last, or started.
    polled: Instant,
    /// Whether the last poll worked; `None` before the first poll.
    worked: Option<bool>,
    /// The time allowed until the next poll.
    patience: Duration,
}

/// A health problem.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwell {
    /// The main loop is stuck.
    #[error("the main loop is stuck: there was no poll for {} s", .0.as_secs())]
    Stuck(Duration),
    /// No packet is seen.
    #[error("not attached to any interface{}", .0.as_ref().map(|waiting| format!(": {waiting}")).unwrap_or_default())]
    Detached(Option<String>),
    /// The agent has just started.
    #[error("there was no poll yet")]
    Starting,
    /// The maps could not be read.
    #[error("the last poll did not work")]
    PollFailed,
}

impl Health {
    /// The state of an agent that starts now.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            attached: false,
            waiting: None,
            polled: now,
            worked: None,
            patience: PATIENCE,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the program is attached to at least one interface, and what is waited for.
    pub fn attached(&self, attached: bool, waiting: Option<&dyn Display>) {
        let waiting = waiting.map(ToString::to_string);
        let mut state = self.state();
        (state.attached, state.waiting) = (attached, waiting);
    }

    /// Notes a poll; the next one follows after `interval`.
    pub fn polled(&self, now: Instant, worked: bool, interval: Duration) {
        let mut state = self.state();
        state.polled = now;
        state.worked = Some(worked);
        state.patience = PATIENCE.max(INTERVALS * interval);
    }

    /// Whether the main loop runs.
    ///
    /// # Errors
    /// [`Unwell::Stuck`].
    pub fn alive(&self, now: Instant) -> Result<(), Unwell> {
        let state = self.state();
        let since = now.saturating_duration_since(state.polled);
        if since > state.patience { Err(Unwell::Stuck(since)) } else { Ok(()) }
    }

    /// Whether packets are seen and counted. Gives what is waited for all the same.
    ///
    /// # Errors
    /// The reason if they are not.
    pub fn ready(&self, now: Instant) -> Result<Option<String>, Unwell> {
        self.alive(now)?;
        let state = self.state();
        match (state.attached, state.worked) {
            (false, _) => Err(Unwell::Detached(state.waiting.clone())),
            (true, None) => Err(Unwell::Starting),
            (true, Some(false)) => Err(Unwell::PollFailed),
            (true, Some(true)) => Ok(state.waiting.clone()),
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
        assert_eq!(health.ready(now), Err(Unwell::Detached(None)));
        health.attached(true, None);
        assert_eq!(health.ready(now), Err(Unwell::Starting));
        health.polled(now, false, SECOND);
        assert_eq!(health.ready(now), Err(Unwell::PollFailed));
        health.polled(now, true, SECOND);
        assert_eq!(health.ready(now), Ok(None));
        health.attached(true, Some(&"there is no eth7"));
        assert_eq!(health.ready(now), Ok(Some("there is no eth7".to_owned())));
        health.attached(false, None);
        assert_eq!((health.ready(now), health.alive(now)), (Err(Unwell::Detached(None)), Ok(())));
    }

    #[test]
    fn a_main_loop_that_does_not_poll_is_stuck_until_it_does() {
        let start = Instant::now();
        let health = Health::new(start);
        health.attached(true, None);
        // The first poll has a deadline, too.
        assert_eq!(health.alive(start + 31 * SECOND), Err(Unwell::Stuck(31 * SECOND)));
        health.polled(start + 31 * SECOND, true, SECOND);
        assert_eq!(health.ready(start + 61 * SECOND), Ok(None));
        let stuck = || Unwell::Stuck(31 * SECOND);
        assert_eq!(health.alive(start + 62 * SECOND), Err(stuck()));
        assert_eq!(health.ready(start + 62 * SECOND), Err(stuck()));
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
