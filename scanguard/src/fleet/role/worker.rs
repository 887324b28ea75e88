//! Works on one partition: begins with the last snapshot or the window, reads what comes, and tells what follows.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context, Message,
        consumer::{Consumer, DeliverPolicy, pull::OrderedConfig},
        stream::Stream,
    },
};
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use super::{
    ServerClock,
    ask::Ask,
    ask::PartitionReport,
    lease::Lease,
    metrics::RoleMetrics,
    states::{Found, Kept, NotWritten},
};
use crate::fleet::{
    correlate::{Campaigns, Correlator, ToldFindings},
    decisions::next,
    link::{Link, PATIENCE},
    settings::Run,
    snapshot::{MOST_BYTES, Outcome, Pace, Position, Read, Unusable},
    wire::{
        Batch, DECISIONS, Decision, FINDINGS, Report, SIGHTINGS, WireError, decide, find_by_all, partition,
        sight_by_all, speaker,
    },
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
    pub(super) campaigns: SharedCampaigns,
}

/// The sources that share the work, as all workers of an instance know them.
#[derive(Clone, Default)]
pub(super) struct SharedCampaigns(Arc<Mutex<Campaigns>>);

impl SharedCampaigns {
    fn lock(&self) -> MutexGuard<'_, Campaigns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of the partition.
struct Work {
    correlator: Correlator,
    /// What single members found.
    found: ToldFindings,
    context: Context,
    /// Whether the window was read. Until then nothing is decided.
    is_read: bool,
    /// How old the last message was when it was read.
    lag: Duration,
    quiet: u32,
    /// How far the streams were read.
    read: Read,
    snapshots: Snapshots,
}

/// The snapshots that a worker writes.
struct Snapshots {
    kept: Kept,
    pace: Pace,
    /// One that is being written.
    writing: Option<oneshot::Receiver<(Kept, Result<(), NotWritten>)>>,
    /// Whether nothing was wrong with the last one, so that a fault is said once.
    works: bool,
    /// Whether another instance works on the partition.
    ended: bool,
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
        let sightings = stream(&context, SIGHTINGS).await?;
        let decisions = stream(&context, DECISIONS).await?;
        let streams = Read { sightings: position(&sightings), decisions: position(&decisions) };
        let mut kept = Kept::default();
        let (correlator, read) = self.take_over(&context, &mut kept, streams).await;
        let is_fresh = read.is_none();
        let mut correlator = correlator.unwrap_or_else(|| Correlator::new(self.settings.clone()));
        let mut read = read.unwrap_or(Read {
            sightings: Position { read: 0, ..streams.sightings },
            decisions: Position { read: 0, ..streams.decisions },
        });
        read.decisions.read = self.resume(&context, &mut correlator, read.decisions.read).await?;
        self.note_tried_lately(&correlator);
        let start = if is_fresh { self.window()? } else { after(read.sightings) };
        let consumer = self.consumer(&sightings, start, sight_by_all(self.partition)).await?;
        let is_empty = consumer.cached_info().num_pending == 0;
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        let findings = stream(&context, FINDINGS).await?;
        let consumer = self.consumer(&findings, self.window()?, find_by_all(self.partition)).await?;
        let mut reports = consumer.messages().await.map_err(|error| error.to_string())?;
        let mut pace = Pace::default();
        if !is_fresh {
            pace.wrote(self.clock.now(), 0);
        }
        let mut work = Work {
            correlator,
            found: ToldFindings::default(),
            context,
            is_read: false,
            lag: Duration::ZERO,
            quiet: 0,
            read,
            snapshots: Snapshots { kept, pace, writing: None, works: true, ended: false },
        };
        if is_empty {
            self.begin(&mut work).await;
        }
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
                report = reports.next() => match report {
                    Some(Ok(report)) => self.hear_report(&report, &mut work),
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the server gives no more findings".to_owned()),
                },
                _ = ticks.tick() => self.tick(&mut work).await,
            }
        }
    }

    /// Begins with the last snapshot, if there is one that can be used. Returns what it has, and up to where.
    async fn take_over(
        &self,
        context: &Context,
        kept: &mut Kept,
        streams: Read,
    ) -> (Option<Correlator>, Option<Read>) {
        let fence = self.fence().unwrap_or(0);
        let times = (self.clock.now(), self.settings.window);
        let loaded = kept.load(context, self.partition, fence, streams, times).await;
        let decoded = loaded.and_then(|Found { head, bytes }| {
            let decoded = Correlator::decode(self.settings.clone(), &bytes);
            decoded.map(|state| (state, head)).map_err(|error| (Unusable::Broken, error.to_string()))
        });
        let partition = self.partition;
        match decoded {
            Ok((state, head)) => {
                self.metrics.snapshot(Outcome::Loaded);
                let age = self.clock.now().saturating_sub(Duration::from_millis(head.at)).as_secs();
                tracing::info!(
                    "fleet: partition {partition}: a snapshot of {} bytes and {age} s ago is read, {} sources",
                    head.bytes,
                    state.sources()
                );
                (Some(state), Some(head.read))
            }
            Err((why, what)) => {
                self.metrics.no_snapshot(why);
                let why = why.label();
                tracing::info!(
                    "fleet: partition {partition}: no snapshot ({why}: {what}), the window is read"
                );
                (None, None)
            }
        }
    }

    /// The messages that were stored within the window.
    fn window(&self) -> Result<DeliverPolicy, String> {
        let start = self.clock.now().saturating_sub(self.settings.window);
        let start_time = async_nats::datetime::from_nanos(i128::try_from(start.as_nanos()).unwrap_or(0))
            .map_err(|error| error.to_string())?;
        Ok(DeliverPolicy::ByStartTime { start_time })
    }

    /// Reads what was stored from there on, and then what comes.
    async fn consumer(
        &self,
        stream: &Stream,
        deliver_policy: DeliverPolicy,
        filter_subject: String,
    ) -> Result<Consumer<OrderedConfig>, String> {
        let config =
            OrderedConfig { filter_subject, deliver_policy, max_batch: 500, ..OrderedConfig::default() };
        stream.create_consumer(config).await.map_err(|error| error.to_string())
    }

    /// Notes what counts for campaigns of what a snapshot has.
    fn note_tried_lately(&self, correlator: &Correlator) {
        let tried = correlator.tried_lately(self.clock.now());
        let mut campaigns = self.campaigns.lock();
        for (name, one) in &tried {
            campaigns.note(one, name);
        }
    }

    /// Sees to what became of the snapshot that is being written, and begins the next one when it is due.
    fn keep(&self, work: &mut Work) {
        let Work { correlator, context, read, snapshots, .. } = work;
        if let Some(writing) = &mut snapshots.writing {
            let Ok((kept, written)) = writing.try_recv() else { return };
            snapshots.writing = None;
            snapshots.kept = kept;
            match written {
                Ok(()) => {
                    self.metrics.snapshot(Outcome::Written);
                    snapshots.works = true;
                }
                Err(NotWritten::Outdated) => {
                    self.metrics.snapshot(Outcome::NotWritten);
                    self.complain(snapshots, "another instance has the partition");
                    snapshots.ended = true;
                }
                Err(NotWritten::Failed(why)) => {
                    self.metrics.snapshot(Outcome::NotWritten);
                    self.complain(snapshots, &why);
                }
            }
        }
        let now = self.clock.now();
        if snapshots.ended || !snapshots.pace.is_due(now) {
            return;
        }
        let bytes = match correlator.encode(now) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.metrics.snapshot(Outcome::NotWritten);
                snapshots.pace.wrote(now, MOST_BYTES as usize);
                return self.complain(snapshots, &error.to_string());
            }
        };
        snapshots.pace.wrote(now, bytes.len());
        if bytes.len() > MOST_BYTES as usize {
            self.metrics.snapshot(Outcome::TooLarge);
            return self.complain(snapshots, &format!("{} bytes, {MOST_BYTES} are possible", bytes.len()));
        }
        let (done, writing) = oneshot::channel();
        snapshots.writing = Some(writing);
        let (kept, context, partition, read) = (snapshots.kept, context.clone(), self.partition, *read);
        let lease = self.lease.clone();
        tokio::spawn(async move {
            // The worker may have ended meanwhile.
            let _ = done.send(kept.save(&context, partition, &lease, (bytes, now, read)).await);
        });
    }

    fn complain(&self, snapshots: &mut Snapshots, why: &str) {
        if std::mem::take(&mut snapshots.works) {
            let partition = self.partition;
            tracing::warn!("fleet: partition {partition}: a snapshot was not written: {why}");
        }
    }

    /// Takes what a single member found.
    fn hear_report(&self, message: &Message, work: &mut Work) {
        let Ok(info) = message.info() else { return };
        let stored = Duration::from_nanos(u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0));
        let read = speaker(message.subject.as_str())
            .and_then(|host| Ok((host, Report::read(&message.payload, self.partition)?)));
        match read {
            Ok((host, report)) => {
                let host = host.into();
                for finding in report.findings {
                    let at = stored.saturating_sub(Duration::from_millis(finding.age));
                    work.found.take(&host, finding, at);
                }
            }
            Err(WireError { fault, what }) => {
                self.metrics.fault(fault);
                tracing::debug!("fleet: a message of {} is not used: {what}", message.subject);
            }
        }
    }

    /// The token of the lease, as long as that lasts.
    fn fence(&self) -> Option<u64> {
        self.lease.borrow().and_then(|lease| lease.token())
    }

    /// Reads the decisions after that number which are in force. Returns the number of the last one.
    async fn resume(
        &self,
        context: &Context,
        correlator: &mut Correlator,
        after: u64,
    ) -> Result<u64, String> {
        let stream = context.get_stream_no_info(DECISIONS).await.map_err(|error| error.to_string())?;
        let mut last = after;
        while let Some(message) = next(&stream, last + 1).await? {
            last = message.sequence;
            let at = u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(0);
            match Decision::read(&message.payload) {
                Ok(decision) if partition(decision.source) == self.partition => {
                    correlator.resume(&decision, Duration::from_nanos(at), self.clock.now());
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(last)
    }

    async fn hear(&self, message: &Message, work: &mut Work) {
        work.quiet = 0;
        let (stored, pending) = match message.info() {
            Ok(info) => {
                work.read.sightings.read = info.stream_sequence;
                (u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0), info.pending)
            }
            Err(_) => return,
        };
        work.snapshots.pace.heard();
        let stored = Duration::from_nanos(stored);
        self.clock.at_least(stored);
        work.lag = self.clock.now().saturating_sub(stored);
        let read = speaker(message.subject.as_str())
            .and_then(|host| Ok((host, Batch::read(&message.payload, self.partition)?)));
        let about = match read {
            Ok((host, batch)) => {
                self.metrics.message(self.partition, batch.sightings.len());
                let about = work.correlator.take(host, &batch, stored);
                self.note_tried(host, &batch, stored, work);
                about
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

    /// Notes what counts for campaigns.
    fn note_tried(&self, host: &str, batch: &Batch, stored: Duration, work: &Work) {
        let now = self.clock.now();
        if Campaigns::is_old(stored, now) {
            return;
        }
        let Some((name, tried)) = work.correlator.tried(host, batch, stored) else { return };
        if tried.is_empty() {
            return;
        }
        let mut campaigns = self.campaigns.lock();
        for one in tried.iter().filter(|one| !Campaigns::is_old(one.at, now)) {
            campaigns.note(one, &name);
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
            Ok(ack) => ack.await.map(|ack| ack.sequence),
            Err(error) => Err(error),
        };
        let Decision { source, verdict, rule, reason, .. } = decision;
        match told {
            Ok(number) => {
                work.read.decisions.read = number.max(work.read.decisions.read);
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
        // Of a part of the window nothing follows.
        let changed = if work.is_read { work.correlator.tick(self.clock.now()) } else { Vec::new() };
        if work.is_read {
            let found = self.campaigns.lock().take(self.partition, self.clock.now());
            for (source, campaign) in found {
                let Some(fence) = self.fence() else { return };
                let now = self.clock.now();
                if let Some(decision) = work.correlator.judge_shared(source, &campaign, fence, now) {
                    self.tell(decision, work).await;
                }
            }
        }
        for (name, aside) in changed {
            match aside {
                Some(why) => {
                    tracing::warn!("fleet: {name} is left aside in partition {}: {why}", self.partition);
                }
                None => tracing::info!("fleet: {name} is believed again in partition {}", self.partition),
            }
        }
        // A part of the window is no state to go on from.
        if work.is_read {
            self.keep(work);
        }
        work.found.expire(self.clock.now().saturating_sub(self.settings.window));
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
                    &work.found,
                    now,
                );
                let _ = answer.send(report);
            }
            Ask::Explain(net, answer) => {
                let mut lines = work.correlator.explain(net, now);
                lines.extend(work.found.of(net).map(|found| found.line(now)));
                let _ = answer.send(lines);
            }
        }
    }
}

async fn stream(context: &Context, name: &str) -> Result<Stream, String> {
    context.get_stream(name).await.map_err(|error| format!("stream {name}: {error}"))
}

/// How far a stream is.
fn position(stream: &Stream) -> Position {
    let info = stream.cached_info();
    let made = i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0);
    Position { made, read: info.state.last_sequence }
}

/// The messages after that.
fn after(position: Position) -> DeliverPolicy {
    DeliverPolicy::ByStartSequence { start_sequence: position.read + 1 }
}
