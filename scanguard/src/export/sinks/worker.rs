//! Delivers the events of a queue one after the other, and tries again where that fails.

use std::{future::Future, io, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{sleep, timeout};

use super::{
    metrics::{Lost, Series},
    queue::Queue,
};
use crate::detect::findings::Event;

/// The first delay after a failure; each is twice the one before, give or take.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// The longest while the agent ends.
const LAST_DELAY: Duration = Duration::from_millis(250);
/// Longer than any delivery takes that will ever come to an end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often an event is tried at a receiver that is there and does not take it, some four minutes in all: it may be
/// this event that it cannot stand.
const ATTEMPTS: u32 = 10;

/// Why an event was not delivered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    /// The receiver is not there, or has no room: it is tried until it is.
    #[error("{0}")]
    Away(String),
    /// It is there and cannot now: it is tried a number of times.
    #[error("{0}")]
    Unable(String),
    /// It will never take this event.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What came of sending a datagram. One that is too large will always be.
pub(super) fn datagram(sent: io::Result<usize>) -> Result<(), Failure> {
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            Err(Failure::Refused("the event is too large for a datagram".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Brings one event to where it is told.
pub(super) trait Deliver: Send + 'static {
    /// Tries once. What is not [`Failure::Refused`] is tried again with the same event.
    fn deliver(&mut self, event: &Event) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The delays between attempts, without end.
pub(super) fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Says what changes: that deliveries fail, and that they work again.
pub(super) struct Spell {
    name: String,
    failures: u64,
}

impl Spell {
    pub(super) fn new(name: String) -> Self {
        Self { name, failures: 0 }
    }

    pub(super) fn failed(&mut self, why: &Failure) {
        let name = &self.name;
        match self.failures {
            0 => tracing::warn!("sink {name}: {why}; trying on, or with what comes next"),
            _ => tracing::debug!("sink {name}: {why}"),
        }
        self.failures += 1;
    }

    pub(super) fn worked(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        if failures > 0 {
            tracing::info!("sink {}: works again after {failures} failures", self.name);
        }
    }
}

/// The worker of a sink.
pub(super) struct Worker<D> {
    sink: D,
    queue: Arc<Queue>,
    series: Series,
    spell: Spell,
}

impl<D: Deliver> Worker<D> {
    pub(super) fn new(name: String, sink: D, queue: Arc<Queue>, series: Series) -> Self {
        Self { sink, queue, series, spell: Spell::new(name) }
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(event) = self.queue.next().await {
            self.bring(&event).await;
            self.queue.done();
        }
    }

    async fn bring(&mut self, event: &Event) {
        let mut unable = 0;
        for delay in delays() {
            let result = timeout(PATIENCE, self.sink.deliver(event)).await;
            let failure =
                match result.unwrap_or_else(|_| Err(Failure::Away(format!("nothing within {PATIENCE:?}")))) {
                    Ok(()) => {
                        self.series.sent();
                        return self.spell.worked();
                    }
                    Err(failure) => failure,
                };
            self.series.failed();
            self.spell.failed(&failure);
            match failure {
                Failure::Away(_) => {}
                Failure::Unable(_) if unable + 1 < ATTEMPTS => unable += 1,
                Failure::Unable(_) | Failure::Refused(_) => return self.series.dropped(Lost::Refused, 1),
            }
            let delay = if self.queue.is_closed() { delay.min(LAST_DELAY) } else { delay };
            tokio::select! {
                () = sleep(delay) => {}
                () = self.queue.closing() => {}
            }
        }
    }
}
