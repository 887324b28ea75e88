//! Tells the fleet what the rules of this host found. Apart from sightings, so that neither waits for the other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{HeaderMap, jetstream::Context};
use ipnet::IpNet;
use tokio::{sync::Notify, time::sleep};

use super::{
    link::Link,
    metrics::{FleetMetrics, Outcome},
    wire::{MAX_FINDINGS, Report, Reported, VERSION, find, partition},
};
use crate::detect::findings::Event;

/// How many findings wait. They are told again as they grow; the sinks keep all.
const MOST: usize = 1_000;
/// The wait before what was not taken is sent again.
const AGAIN: Duration = Duration::from_secs(5);

struct Waiting {
    reported: Reported,
    at: Duration,
}

/// The findings that wait.
#[derive(Clone, Default)]
pub(super) struct Findings(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<VecDeque<Waiting>>,
    wake: Notify,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event of a finding. Those about what leaves this host have no source that others could know.
    pub(super) fn push(&self, event: &Event, source: IpNet, at: Duration, metrics: &FleetMetrics) {
        let finding = &event.finding;
        if finding.actor.is_some() || finding.source_ip().is_none() {
            return;
        }
        let (confidence, spoofable) = finding.known();
        let reported = Reported {
            id: finding.id.clone(),
            source,
            age: 0,
            rule: finding.rule.to_owned(),
            event: event.kind.label().to_owned(),
            severity: finding.severity.label().to_owned(),
            confidence: confidence.label().to_owned(),
            proven: !spoofable.is_possible(),
            sources: finding.sources.count,
            size: finding.size(),
        };
        let mut waiting = self.lock();
        waiting.push_back(Waiting { reported, at });
        if waiting.len() > MOST {
            waiting.pop_front();
            metrics.findings(Outcome::Dropped, 1);
        }
        drop(waiting);
        self.0.wake.notify_one();
    }

    /// Sends what waits until it is dropped.
    pub(super) async fn publish(&self, link: &Link, context: &Context, sender: &Sender<'_>) {
        let mut number = 0u64;
        loop {
            let taken: Vec<_> = {
                let mut waiting = self.lock();
                let count = waiting.len().min(MAX_FINDINGS);
                waiting.drain(..count).collect()
            };
            if taken.is_empty() {
                self.0.wake.notified().await;
                continue;
            }
            let mut by_partition: BTreeMap<u8, Vec<Waiting>> = BTreeMap::new();
            for one in taken {
                by_partition.entry(partition(one.reported.source)).or_default().push(one);
            }
            let mut error = None;
            for (partition, part) in by_partition {
                number += 1;
                match send(context, sender, partition, &part, number).await {
                    Ok(()) => sender.metrics.findings(Outcome::Acknowledged, part.len() as u64),
                    Err(why) => {
                        error = Some(why);
                        let mut waiting = self.lock();
                        for one in part.into_iter().rev() {
                            if waiting.len() < MOST {
                                waiting.push_front(one);
                            } else {
                                sender.metrics.findings(Outcome::Dropped, 1);
                            }
                        }
                    }
                }
            }
            let failed = error.is_some();
            link.note("tell findings", error);
            if failed {
                sleep(AGAIN).await;
            }
        }
    }
}

/// Who sends.
pub(super) struct Sender<'s> {
    pub(super) name: &'s str,
    pub(super) boot: u64,
    pub(super) now: &'s (dyn Fn() -> Duration + Sync),
    pub(super) metrics: &'s FleetMetrics,
}

async fn send(
    context: &Context,
    sender: &Sender<'_>,
    partition: u8,
    part: &[Waiting],
    number: u64,
) -> Result<(), String> {
    let now = (sender.now)();
    let aged = |one: &Waiting| Reported {
        age: u64::try_from(now.saturating_sub(one.at).as_millis()).unwrap_or(u64::MAX),
        ..one.reported.clone()
    };
    let report = Report { v: VERSION, findings: part.iter().map(aged).collect() };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{}.{:016x}.f{number}", sender.name, sender.boot));
    // Plain data with names as keys: it can always be written.
    let payload = serde_json::to_vec(&report).unwrap_or_default();
    let ack = context
        .publish_with_headers(find(partition, sender.name), headers, payload.into())
        .await
        .map_err(|error| error.to_string())?;
    ack.await.map(drop).map_err(|error| error.to_string())
}
