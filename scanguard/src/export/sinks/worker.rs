//! Delivers the events of a queue one after the other, and retries after failures.

use std::{future::Future, io, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{sleep, timeout};

use super::{
    metrics::{Lost, Series},
    queue::Queue,
};
use crate::detect::findings::Event;

/// The first delay after a failure; each further one is about twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// The longest delay while the agent ends.
const LAST_DELAY: Duration = Duration::from_millis(250);
/// Time limit of one delivery. Every delivery that can succeed is shorter.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often one event is tried if the receiver answers but does not accept it, about four minutes in all: this event
/// itself may be the cause.
const ATTEMPTS: u32 = 10;

/// Why an event was not delivered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    /// The receiver is not there, or has no room: retried without limit.
    #[error("{0}")]
    Away(String),
    /// The receiver is there but fails now: retried a limited number of times.
    #[error("{0}")]
    Unable(String),
    /// The receiver will never accept this event.
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

/// The result of sending a datagram. A datagram that is too large stays so.
pub(super) fn datagram(sent: io::Result<usize>) -> Result<(), Failure> {
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            Err(Failure::Refused("the event is too large for a datagram".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Delivers one event to its destination.
pub(super) trait Deliver: Send + 'static {
    /// Tries once. After any failure except [`Failure::Refused`] it is tried again with the same event.
    fn deliver(&mut self, event: &Event) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The delays between attempts, an endless sequence.
pub(super) fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Logs changes only: when deliveries begin to fail, and when they work again.
pub(super) struct FailureLog {
    name: String,
    failures: u64,
}

impl FailureLog {
    pub(super) fn new(name: String) -> Self {
        Self { name, failures: 0 }
    }

    pub(super) fn failed(&mut self, why: &Failure) {
        let name = &self.name;
        match self.failures {
            0 => tracing::warn!("sink {name}: {why}; trying again"),
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
    failures: FailureLog,
}

impl<D: Deliver> Worker<D> {
    pub(super) fn new(name: String, sink: D, queue: Arc<Queue>, series: Series) -> Self {
        Self { sink, queue, series, failures: FailureLog::new(name) }
    }

    /// Runs until the queue is closed and empty.
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
                        return self.failures.worked();
                    }
                    Err(failure) => failure,
                };
            self.series.failed();
            self.failures.failed(&failure);
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
