//! Works on one partition: reads the window, then what comes, and tells what follows.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context, Message,
        consumer::{DeliverPolicy, pull::OrderedConfig},
    },
};
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use super::{ServerClock, ask::Ask, ask::PartitionReport, lease::Lease, metrics::RoleMetrics};
use crate::fleet::{
    correlate::Correlator,
    decisions::next,
    link::{Link, PATIENCE},
    settings::Run,
    wire::{Batch, DECISIONS, Decision, SIGHTINGS, WireError, decide, partition, sight_by_all, speaker},
};

/// How often what is too old is forgotten.
const EVERY: Duration = Duration::from_secs(1);
/// So many ticks without a message, and all that was there has been read.
const QUIET: u32 = 3;

/// What works on a partition.
pub(super) struct Worker {
    pub(super) link: Link,
    pub(super) partition: u8,
    pub(super) settings: Run,
    pub(super) clock: ServerClock,
    /// The lease; none: it is over.
    pub(super) lease: watch::Receiver<Option<Lease>>,
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) metrics: Arc<RoleMetrics>,
}

/// What is known of the partition.
struct Work {
    correlator: Correlator,
    context: Context,
    /// Whether the window was read. Until then nothing is decided.
    is_read: bool,
    /// How old the last message was when it was read.
    lag: Duration,
    quiet: u32,
}

impl Worker {
    /// Runs until the lease is over, or something fails: then whoever has the lease next begins anew.
    pub(super) async fn run(mut self) {
        let partition = self.partition;
        if let Err(error) = self.work().await {
            tracing::warn!("fleet: partition {partition}: {error}");
        }
    }

    async fn work(&mut self) -> Result<(), String> {
        let mut context = jetstream::new(self.link.client.clone());
        context.set_timeout(PATIENCE);
        let mut correlator = Correlator::new(self.settings.clone());
        self.resume(&context, &mut correlator).await?;
        let stream = context.get_stream(SIGHTINGS).await.map_err(|error| error.to_string())?;
        let start = self.clock.now().saturating_sub(self.settings.window);
        let start = async_nats::datetime::from_nanos(i128::try_from(start.as_nanos()).unwrap_or(0))
            .map_err(|error| error.to_string())?;
        let config = OrderedConfig {
            filter_subject: sight_by_all(self.partition),
            deliver_policy: DeliverPolicy::ByStartTime { start_time: start },
            max_batch: 500,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        let is_read = consumer.cached_info().num_pending == 0;
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        let mut work = Work { correlator, context, is_read, lag: Duration::ZERO, quiet: 0 };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.lease.changed() => {
                    if changed.is_err() || self.fence().is_none() {
                        return Ok(());
                    }
                }
                Some(ask) = self.asked.recv() => self.answer(ask, &work),
                message = messages.next() => match message {
                    Some(Ok(message)) => self.hear(&message, &mut work).await,
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the server gives no more messages".to_owned()),
                },
                _ = ticks.tick() => self.tick(&mut work).await,
            }
        }
    }

    /// The token of the lease, as long as that lasts.
    fn fence(&self) -> Option<u64> {
        self.lease.borrow().and_then(|lease| lease.token())
    }

    /// Reads the decisions that are in force.
    async fn resume(&self, context: &Context, correlator: &mut Correlator) -> Result<(), String> {
        let stream = context.get_stream_no_info(DECISIONS).await.map_err(|error| error.to_string())?;
        let mut number = 1;
        while let Some(message) = next(&stream, number).await? {
            number = message.sequence + 1;
            let at = u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(0);
            match Decision::read(&message.payload) {
                Ok(decision) if partition(decision.source) == self.partition => {
                    correlator.resume(&decision, Duration::from_nanos(at), self.clock.now());
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn hear(&self, message: &Message, work: &mut Work) {
        work.quiet = 0;
        let (stored, pending) = match message.info() {
            Ok(info) => (u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0), info.pending),
            Err(_) => return,
        };
        let stored = Duration::from_nanos(stored);
        self.clock.at_least(stored);
        work.lag = self.clock.now().saturating_sub(stored);
        let read = speaker(message.subject.as_str())
            .and_then(|host| Ok((host, Batch::read(&message.payload, self.partition)?)));
        let about = match read {
            Ok((host, batch)) => {
                self.metrics.message(self.partition, batch.sightings.len());
                work.correlator.take(host, &batch, stored)
            }
            Err(WireError { fault, what }) => {
                self.metrics.fault(fault);
                tracing::debug!("fleet: a message of {} is not used: {what}", message.subject);
                Vec::new()
            }
        };
        if work.is_read {
            for net in about {
                let Some(fence) = self.fence() else { return };
                let decision = work.correlator.judge(net, fence, self.clock.now());
                if let Some(decision) = decision {
                    self.tell(decision, work).await;
                }
            }
        } else if pending == 0 {
            self.begin(work).await;
        }
    }

    /// All that was there has been read.
    async fn begin(&self, work: &mut Work) {
        work.is_read = true;
        let Some(fence) = self.fence() else { return };
        let decisions = work.correlator.judge_active(fence, self.clock.now());
        tracing::info!(
            "fleet: partition {}: the window is read, {} sources, {} decisions",
            self.partition,
            work.correlator.sources(),
            decisions.len()
        );
        for decision in decisions {
            self.tell(decision, work).await;
        }
    }

    async fn tell(&self, decision: Decision, work: &mut Work) {
        let subject = decide(decision.source);
        let payload = serde_json::to_vec(&decision).unwrap_or_default();
        let told = match work.context.publish_with_headers(subject, HeaderMap::new(), payload.into()).await {
            Ok(ack) => ack.await.map(drop),
            Err(error) => Err(error),
        };
        let Decision { source, verdict, rule, reason, .. } = decision;
        match told {
            Ok(()) => {
                self.metrics.decided(verdict);
                tracing::info!("fleet: {} of {source}: {rule}: {reason}", verdict.label());
            }
            Err(error) => {
                self.metrics.not_told();
                tracing::error!("fleet: a decision about {source} was not taken: {error}");
                work.correlator.take_back(source);
            }
        }
    }

    async fn tick(&self, work: &mut Work) {
        work.quiet += 1;
        if !work.is_read && work.quiet >= QUIET {
            self.begin(work).await;
        }
        for (name, aside) in work.correlator.tick(self.clock.now()) {
            match aside {
                Some(why) => {
                    tracing::warn!("fleet: {name} is left aside in partition {}: {why}", self.partition);
                }
                None => tracing::info!("fleet: {name} is believed again in partition {}", self.partition),
            }
        }
        self.metrics.partition(self.partition, &work.correlator, work.lag);
    }

    fn answer(&self, ask: Ask, work: &Work) {
        let now = self.clock.now();
        // Who asked may be gone.
        match ask {
            Ask::Status(answer) => {
                let fence = self.fence().unwrap_or(0);
                let report = PartitionReport::new(
                    self.partition,
                    fence,
                    work.is_read,
                    work.lag,
                    &work.correlator,
                    now,
                );
                let _ = answer.send(report);
            }
            Ask::Explain(net, answer) => {
                let _ = answer.send(work.correlator.explain(net, now));
            }
        }
    }
}
