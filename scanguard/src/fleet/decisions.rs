//! Takes decisions as they come, and asks for those that did not.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Message,
    jetstream::{
        self,
        message::StreamMessage,
        stream::{DirectGetErrorKind, Stream},
    },
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::sleep,
};

use super::{
    link::Link,
    metrics::{FleetMetrics, Taken},
    wire::{ALL_DECISIONS, ALL_OUT, DECISIONS, Decision, PARTITIONS, partition},
};

/// How many decisions wait until the agent takes them.
pub(super) const QUEUE: usize = 4_096;
/// How many decisions are asked for after a gap.
const MOST_MISSED: usize = 20_000;
/// The wait before the stream is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// A decision that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// It.
    pub decision: Decision,
    /// Its number.
    pub number: u64,
    /// How long it still lasts.
    pub left: Duration,
}

/// Which decisions are used: those of the newest lease of each partition. Pure.
#[derive(Debug, Default)]
pub(super) struct Fences([u64; PARTITIONS as usize]);

impl Fences {
    /// Whether a decision is by the newest lease that is known.
    pub(super) fn take(&mut self, decision: &Decision) -> bool {
        let newest = &mut self.0[usize::from(partition(decision.source))];
        *newest = decision.fence.max(*newest);
        decision.fence == *newest
    }
}

/// Takes decisions until nobody wants them.
pub(super) struct Listener {
    pub(super) link: Link,
    pub(super) told: mpsc::Sender<Told>,
    pub(super) metrics: Arc<FleetMetrics>,
    pub(super) fences: Fences,
    /// The number of the last decision.
    pub(super) last: u64,
    /// Whether all up to that one are known. If not, those that come are found in the stream.
    pub(super) is_caught_up: bool,
}

impl Listener {
    pub(super) async fn run(mut self) {
        let mut connections = self.link.connections.clone();
        let mut out = loop {
            match self.link.client.subscribe(ALL_OUT).await {
                Ok(out) => break out,
                Err(error) => self.link.note("listen to decisions", Some(error.to_string())),
            }
            sleep(AGAIN).await;
        };
        loop {
            tokio::select! {
                changed = connections.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.is_caught_up = false;
                }
                message = out.next() => {
                    let Some(message) = message else { return };
                    self.hear(&message).await;
                }
                () = sleep(AGAIN), if !self.is_caught_up => {}
            }
            if !self.is_caught_up && self.link.state().connected {
                let result = self.catch_up(None).await;
                self.is_caught_up = result.is_ok();
                self.link.note("read decisions", result.err());
            }
        }
    }

    /// A decision as it goes out.
    async fn hear(&mut self, message: &Message) {
        let number = message.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
        let Some(number) = number.and_then(|number| number.as_str().parse::<u64>().ok()) else {
            self.metrics.decided(Taken::Malformed);
            return;
        };
        if !self.is_caught_up {
            return;
        }
        if number > self.last + 1 {
            self.metrics.gap();
            if let Err(error) = self.catch_up(Some(number)).await {
                self.is_caught_up = false;
                self.link.note("read decisions", Some(error));
                return;
            }
        }
        if number <= self.last {
            return;
        }
        self.last = number;
        self.tell(&message.payload, number, Duration::ZERO);
    }

    /// Asks for the decisions after the last one, and before this one.
    async fn catch_up(&mut self, before: Option<u64>) -> Result<(), String> {
        let context = jetstream::new(self.link.client.clone());
        let info: serde_json::Value = context
            .request(format!("STREAM.INFO.{DECISIONS}"), &())
            .await
            .map_err(|error| format!("stream {DECISIONS}: {error}"))?;
        if let Some(error) = info["error"]["description"].as_str() {
            return Err(format!("stream {DECISIONS}: {error} (`scanguard fleet run` makes it)"));
        }
        // Servers before 2.10 do not say their time. Then it is that of this host.
        let now = info["ts"].as_str().and_then(|time| time.parse().ok()).unwrap_or_else(Timestamp::now);
        let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
        if last < self.last {
            tracing::warn!("fleet: the stream of decisions was made anew");
            self.last = 0;
            self.fences = Fences::default();
        }
        let stream = context.get_stream_no_info(DECISIONS).await.map_err(|error| error.to_string())?;
        let until = before.unwrap_or(u64::MAX);
        for _ in 0..MOST_MISSED {
            if self.last >= last.min(until - 1) {
                return Ok(());
            }
            let Some(message) = next(&stream, self.last + 1).await? else {
                self.last = self.last.max(last.min(until - 1));
                return Ok(());
            };
            if message.sequence >= until {
                self.last = until - 1;
                return Ok(());
            }
            self.last = message.sequence;
            self.tell(&message.payload, message.sequence, age(&message, now));
        }
        tracing::warn!("fleet: more than {MOST_MISSED} decisions were missed; the others are left out");
        self.last = self.last.max(last.min(until - 1));
        Ok(())
    }

    fn tell(&mut self, payload: &[u8], number: u64, age: Duration) {
        let decision = match Decision::read(payload) {
            Ok(decision) => decision,
            Err(error) => {
                tracing::debug!("fleet: a decision is not used: {error}");
                return self.metrics.decided(Taken::Malformed);
            }
        };
        if !self.fences.take(&decision) {
            return self.metrics.decided(Taken::Stale);
        }
        let left = decision.duration().saturating_sub(age);
        if left.is_zero() {
            return self.metrics.decided(Taken::Over);
        }
        match self.told.try_send(Told { decision, number, left }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.metrics.decided(Taken::LeftOut),
        }
    }
}

/// How long ago the server stored a message, by its own clock.
fn age(message: &StreamMessage, now: Timestamp) -> Duration {
    let stored = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or(Timestamp::MIN);
    Duration::try_from(now.duration_since(stored)).unwrap_or(Duration::ZERO)
}

/// The next decision from this number on, if there is one.
pub(super) async fn next(stream: &Stream<()>, number: u64) -> Result<Option<StreamMessage>, String> {
    match stream.direct_get_next_for_subject(ALL_DECISIONS, Some(number)).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::wire::{VERSION, Verdict};

    #[test]
    fn who_has_lost_the_lease_decides_nothing_any_more() {
        let decision = |net: &str, fence| Decision {
            v: VERSION,
            source: net.parse().unwrap(),
            verdict: Verdict::Ban,
            rule: String::new(),
            reason: String::new(),
            members: 16,
            evidence: Vec::new(),
            lasts: 1_000,
            fence,
        };
        let mut fences = Fences::default();
        let mut take = |net, fence| fences.take(&decision(net, fence));
        // Partition 0, and then another.
        assert!(take("192.0.2.7/32", 7) && take("192.0.2.7/32", 9) && !take("192.0.2.7/32", 8));
        assert!(take("192.0.2.7/32", 9) && take("198.51.100.1/32", 3));
    }
}
