//! A bounded queue of events. If it is full, the oldest event is dropped: a later event of a finding contains
//! everything from the earlier ones, and its end matters more than its beginning.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    Inbox,
    metrics::{Lost, Series},
};
use crate::detect::findings::Event;

/// The queue, for one producer and one consumer.
pub(super) struct Queue {
    state: Mutex<State>,
    news: Notify,
    closing: Notify,
    limit: usize,
    series: Series,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    /// One event was taken out and is not delivered yet.
    in_hand: bool,
    closed: bool,
}

impl Queue {
    /// An empty queue with this capacity.
    pub(super) fn new(limit: usize, series: Series) -> Self {
        Self { state: Mutex::default(), news: Notify::new(), closing: Notify::new(), limit, series }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event; `None` when the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Arc<Event>> {
        loop {
            {
                let mut state = self.state();
                if let Some(event) = state.events.pop_front() {
                    state.in_hand = true;
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// Notes that the last taken event was delivered or given up.
    pub(super) fn done(&self) {
        let mut state = self.state();
        state.in_hand = false;
        self.series.queued(state.events.len());
    }

    /// Whether the queue is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until the queue is closed; returns once only.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }
}

impl Inbox for Queue {
    fn push(&self, event: &Arc<Event>) {
        let mut state = self.state();
        if state.events.len() >= self.limit {
            state.events.pop_front();
            self.series.dropped(Lost::Full, 1);
        }
        state.events.push_back(Arc::clone(event));
        self.series.queued(state.events.len() + usize::from(state.in_hand));
        drop(state);
        self.news.notify_one();
    }

    fn close(&self) {
        self.state().closed = true;
        self.news.notify_one();
        self.closing.notify_one();
    }

    fn left(&self) -> usize {
        let state = self.state();
        state.events.len() + usize::from(state.in_hand)
    }
}
