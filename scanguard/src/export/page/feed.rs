//! Keeps browsers up to date by server-sent events.
//!
//! ```text
//! main task -> picture, once a second at most, while anybody looks -> watch channel -> each browser: what has changed for it
//! ```
//! A picture is made and serialized once for all browsers. There is no queue: a slow browser misses pictures.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::response::sse::Event;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{
    history::History,
    overview::Overview,
    slots::{Slot, Slots},
    token_auth::TokenAuth,
};
use crate::control::{
    Answer, Ask,
    agent_handle::{AgentHandle, NoAnswer},
    listing::MAX_ROWS,
    peer::Peer,
};

/// The interval of pictures.
const PACE: Duration = Duration::from_secs(1);
/// After a slow picture the feed pauses for this multiple of its time, so that watching does not slow down the agent.
const REST: u32 = 10;
/// A browser that lost the connection tries again after this time.
const RETRY: Duration = Duration::from_secs(3);
/// Rows in each list.
const ROWS: usize = 50;
const _: () = assert!(ROWS <= MAX_ROWS as usize, "no more than at the socket");

/// The parts of a picture, each with the name of its event, as JSON.
const PARTS: [&str; 5] = ["overview", "findings", "sources", "bans", "sample"];
type Parts = [Arc<str>; PARTS.len()];
/// The last event for a browser whose slot was given to another.
const DISPLACED: &str = "displaced";

/// Makes pictures.
pub(super) struct Feed {
    agent: AgentHandle,
    history: Arc<Mutex<History>>,
    auth: Arc<TokenAuth>,
    slots: Arc<Slots>,
    /// The last picture; `None` if no browser is connected.
    pictures: watch::Sender<Option<Parts>>,
    /// Signals that a browser has connected.
    wanted: Notify,
}

/// The picture could not be made.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("the agent answered something else")]
    OffTheSubject,
    #[error("it cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl Feed {
    pub(super) fn new(
        agent: AgentHandle,
        history: Arc<Mutex<History>>,
        auth: Arc<TokenAuth>,
        slots: Arc<Slots>,
    ) -> Self {
        Self { agent, history, auth, slots, pictures: watch::Sender::new(None), wanted: Notify::new() }
    }

    /// Makes pictures while at least one browser is connected.
    pub(super) async fn run(&self) {
        loop {
            if self.pictures.receiver_count() == 0 {
                // A browser that connects later must not get an old picture.
                self.pictures.send_replace(None);
                self.wanted.notified().await;
            }
            let started = Instant::now();
            match self.look().await {
                Ok(parts) => {
                    self.pictures.send_replace(Some(parts));
                }
                Err(error) => tracing::warn!("there is no picture for the page: {error}"),
            }
            sleep(rest(started.elapsed())).await;
        }
    }

    async fn look(&self) -> Result<Parts, FeedError> {
        let picture = match self.agent.ask(Peer::this_process(), Ask::Picture(ROWS)).await? {
            Answer::Picture(picture) => picture,
            Answer::Done(_)
            | Answer::Refused(_)
            | Answer::Misconfigured(_)
            | Answer::Bans(_)
            | Answer::Status(_)
            | Answer::Explanation(_)
            | Answer::Sources(_)
            | Answer::Findings(_)
            | Answer::Actors(_)
            | Answer::ActorReports(_) => return Err(FeedError::OffTheSubject),
        };
        let sample = self.history.lock().unwrap_or_else(PoisonError::into_inner).last();
        Ok([
            json(&Overview::of(&picture, self.auth.has_token()))?,
            json(&picture.findings)?,
            json(&picture.sources.sources)?,
            json(&picture.bans.bans)?,
            json(&sample)?,
        ])
    }

    /// Gives a browser a slot.
    pub(super) fn slot(&self, stopped: watch::Receiver<()>) -> Client {
        let mut pictures = self.pictures.subscribe();
        // An existing picture is still fresh enough.
        pictures.mark_changed();
        self.wanted.notify_one();
        Client { pictures, stopped, sent: None, slot: Some(self.slots.take()) }
    }
}

/// How long to pause after a picture that took this long.
fn rest(took: Duration) -> Duration {
    PACE.max(took * REST)
}

fn json(part: &impl Serialize) -> Result<Arc<str>, serde_json::Error> {
    serde_json::to_string(part).map(Arc::from)
}

/// A connected browser.
pub(super) struct Client {
    pictures: watch::Receiver<Option<Parts>>,
    stopped: watch::Receiver<()>,
    /// The parts that were sent last.
    sent: Option<Parts>,
    /// `None` after its slot was given to another browser.
    slot: Option<Slot>,
}

impl Client {
    /// The parts that have changed. `None` if the agent ends, or after the browser got the event that it lost its
    /// slot.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let slot = self.slot.as_mut()?;
            tokio::select! {
                biased;
                () = slot.lost() => {
                    self.slot = None;
                    return Some(vec![Event::default().event(DISPLACED).data("{}")]);
                }
                changed = self.pictures.changed() => changed.ok()?,
                // An error means that the agent has gone.
                _ = self.stopped.changed() => return None,
            }
            let Some(parts) = self.pictures.borrow_and_update().clone() else {
                continue;
            };
            let before = self.sent.replace(parts.clone());
            let is_new = |place: usize| before.as_ref().is_none_or(|before| before[place] != parts[place]);
            let changed = PARTS.iter().zip(&parts).enumerate().filter(|(place, _)| is_new(*place));
            let mut events: Vec<_> =
                changed.map(|(_, (name, part))| Event::default().event(name).data(&**part)).collect();
            if before.is_none() {
                events.insert(0, Event::default().retry(RETRY));
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_takes_long_for_a_picture_is_left_alone_for_longer() {
        assert_eq!(rest(Duration::from_millis(3)), PACE);
        assert_eq!(rest(Duration::from_millis(400)), Duration::from_secs(4));
    }
}
