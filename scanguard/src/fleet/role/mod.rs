//! The role `fleet`: compares what the members say, and decides. It needs no root and no BPF.
//!
//! Several instances share the work. Each holds the leases of some partitions, and compares the hosts for their sources.
//! An instance that takes a partition over begins with the last snapshot of the holder before, and reads what came after
//! that; without a snapshot, the whole window.

mod ask;
mod lease;
mod metrics;
mod states;
mod streams;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Message, Subscriber, jetstream};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    ask::Ask,
    lease::{Lease, Leases},
    worker::{SharedCampaigns, Worker},
};
pub use self::{
    ask::{InstanceReport, PartitionReport, RecentReport, ask},
    metrics::RoleMetrics,
};
use super::{
    link::{Link, LinkError},
    settings::Settings,
    wire::{PARTITIONS, SIGHTINGS},
};

/// How often leases are renewed and looked for.
const EVERY: Duration = Duration::from_secs(1);
/// An instance that was not heard for this long is gone.
const GONE: Duration = Duration::from_secs(4);
/// The subjects by which instances hear of each other.
const ALL_RUN: &str = "sg.v1.run.*";
/// The last message of an instance there.
const ENDS: &str = "ends";
/// Those of questions to them.
const ALL_ASK: &str = "sg.v1.ask.*";
/// How many questions wait for a partition.
const QUESTIONS: usize = 16;

/// The servers' time, as far as it is known. Ages are differences of it, so that the clocks of hosts do not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerClock(Arc<AtomicI64>);

impl ServerClock {
    fn own() -> i64 {
        Timestamp::now().as_millisecond()
    }

    /// A server said that it is this late, just now.
    fn set(&self, server: Timestamp) {
        self.0.store(server.as_millisecond() - Self::own(), Ordering::Relaxed);
    }

    /// A message was stored at this time, some time ago: so the server's time is at least this.
    fn at_least(&self, stored: Duration) {
        let stored = i64::try_from(stored.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_max(stored - Self::own(), Ordering::Relaxed);
    }

    /// The time, since 1970.
    fn now(&self) -> Duration {
        let now = Self::own() + self.0.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(now).unwrap_or(0))
    }
}

/// A partition that this instance works on.
struct Part {
    lease: watch::Sender<Option<Lease>>,
    ask: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

/// Runs an instance until `stop`.
///
/// # Errors
/// See [`LinkError`]: there will never be a connection with these settings.
pub async fn run(
    settings: &Settings,
    metrics: Arc<RoleMetrics>,
    stop: impl Future<Output = ()>,
) -> Result<(), LinkError> {
    let link = Link::open(settings, true).await?;
    tokio::pin!(stop);
    let clock = ServerClock::default();
    let store = tokio::select! {
        () = &mut stop => return Ok(()),
        store = prepare(&link, settings, &clock) => store,
    };
    let (run, asked) = tokio::select! {
        () = &mut stop => return Ok(()),
        subscribed = subscribe(&link) => subscribed,
    };
    tracing::info!("fleet: {} takes part", settings.name);
    let mut instance = Instance {
        settings: settings.clone(),
        link,
        clock,
        metrics,
        leases: Leases::new(store, settings.name.clone()),
        parts: BTreeMap::new(),
        peers: HashMap::new(),
        started: Instant::now(),
        campaigns: SharedCampaigns::default(),
    };
    instance.work(run, asked, stop).await;
    Ok(())
}

/// Waits for a server, and for the streams.
async fn prepare(link: &Link, settings: &Settings, clock: &ServerClock) -> jetstream::kv::Store {
    loop {
        if link.state().connected {
            let context = jetstream::new(link.client.clone());
            let prepared = match streams::ensure(&context, &settings.run).await {
                Ok(store) => server_time(&context).await.map(|time| (store, time)),
                Err(error) => Err(error),
            };
            match prepared {
                Ok((store, time)) => {
                    link.note("prepare the streams", None);
                    clock.set(time);
                    return store;
                }
                Err(error) => link.note("prepare the streams", Some(error)),
            }
        }
        sleep(EVERY).await;
    }
}

/// The time of the server. One before 2.10 does not say it: then it is that of this host.
async fn server_time(context: &jetstream::Context) -> Result<Timestamp, String> {
    let info: serde_json::Value =
        context.request(format!("STREAM.INFO.{SIGHTINGS}"), &()).await.map_err(|error| error.to_string())?;
    Ok(info["ts"].as_str().and_then(|time| time.parse().ok()).unwrap_or_else(Timestamp::now))
}

async fn subscribe(link: &Link) -> (Subscriber, Subscriber) {
    loop {
        match (link.client.subscribe(ALL_RUN).await, link.client.subscribe(ALL_ASK).await) {
            (Ok(run), Ok(asked)) => return (run, asked),
            (Err(error), _) | (_, Err(error)) => link.note("listen", Some(error.to_string())),
        }
        sleep(EVERY).await;
    }
}

struct Instance {
    settings: Settings,
    link: Link,
    clock: ServerClock,
    metrics: Arc<RoleMetrics>,
    leases: Leases,
    parts: BTreeMap<u8, Part>,
    /// The other instances, and when they were heard last.
    peers: HashMap<String, Instant>,
    started: Instant,
    campaigns: SharedCampaigns,
}

impl Instance {
    async fn work(&mut self, mut run: Subscriber, mut asked: Subscriber, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = ticks.tick() => self.tick().await,
                Some(message) = run.next() => self.hear(&message),
                Some(question) = asked.next() => self.answer(question),
                else => break,
            }
        }
        // Others need not wait for the leases to end, nor for this instance to be gone.
        for (partition, part) in std::mem::take(&mut self.parts) {
            part.lease.send_replace(None);
            part.task.abort();
            self.leases.give_back(partition).await;
        }
        let _ = self.link.client.publish(self.own(), ENDS.into()).await;
        let _ = self.link.client.flush().await;
    }

    /// The subject by which others hear of this instance.
    fn own(&self) -> String {
        format!("sg.v1.run.{}", self.settings.name)
    }

    fn hear(&mut self, message: &Message) {
        if let Some(name) = message.subject.as_str().rsplit('.').next()
            && name != self.settings.name
        {
            if message.payload.as_ref() == ENDS.as_bytes() {
                self.peers.remove(name);
            } else {
                self.peers.insert(name.to_owned(), Instant::now());
            }
        }
    }

    /// How many partitions this instance should have.
    fn share(&mut self) -> usize {
        self.peers.retain(|_, heard| heard.elapsed() < GONE);
        usize::from(PARTITIONS).div_ceil(self.peers.len() + 1)
    }

    async fn tick(&mut self) {
        if let Err(error) = self.link.client.publish(self.own(), "".into()).await {
            self.link.note("speak", Some(error.to_string()));
        }
        // Who has just come lets others speak first.
        if self.started.elapsed() < EVERY {
            return;
        }
        self.leases.renew().await;
        let ended: Vec<_> = self
            .parts
            .iter()
            .filter(|(partition, part)| !self.leases.holds(**partition) || part.task.is_finished())
            .map(|(partition, _)| *partition)
            .collect();
        for partition in ended {
            self.leave(partition);
            self.leases.give_back(partition).await;
            tracing::warn!("fleet: partition {partition} is given up");
        }
        let share = self.share();
        while self.parts.len() > share {
            let Some(partition) = self.parts.keys().next_back().copied() else { break };
            tracing::info!("fleet: partition {partition} is left to another instance");
            self.leave(partition);
            self.leases.give_back(partition).await;
        }
        for (partition, part) in &self.parts {
            part.lease.send_replace(self.leases.lease(*partition));
        }
        let wanted: Vec<_> =
            (0..PARTITIONS).filter(|partition| !self.parts.contains_key(partition)).collect();
        for partition in wanted {
            if self.parts.len() >= share {
                break;
            }
            if let Some(lease) = self.leases.take(partition).await {
                tracing::info!(
                    "fleet: partition {partition} is taken, lease {}",
                    lease.token().unwrap_or_default()
                );
                self.begin(partition, lease);
            }
        }
        self.metrics.instance(self.parts.len(), self.peers.len() + 1, self.link.state().connected);
    }

    fn begin(&mut self, partition: u8, lease: Lease) {
        let (lease, leases) = watch::channel(Some(lease));
        let (ask, asked) = mpsc::channel(QUESTIONS);
        let worker = Worker {
            link: self.link.clone(),
            partition,
            settings: self.settings.run.clone(),
            clock: self.clock.clone(),
            lease: leases,
            asked,
            metrics: Arc::clone(&self.metrics),
            campaigns: self.campaigns.clone(),
        };
        self.parts.insert(partition, Part { lease, ask, task: tokio::spawn(worker.run()) });
    }

    fn leave(&mut self, partition: u8) {
        if let Some(part) = self.parts.remove(&partition) {
            part.lease.send_replace(None);
            part.task.abort();
            self.metrics.left(partition);
        }
    }

    /// Answers beside the main loop.
    fn answer(&self, question: Message) {
        let parts: Vec<_> =
            self.parts.iter().map(|(partition, part)| (*partition, part.ask.clone())).collect();
        let (client, name) = (self.link.client.clone(), self.settings.name.clone());
        tokio::spawn(async move {
            let Some(reply) = question.reply.clone() else { return };
            let kind = question.subject.as_str().rsplit('.').next().unwrap_or_default().to_owned();
            let Some(answer) = ask::answer(&kind, &question.payload, &name, &parts).await else { return };
            if let Err(error) = client.publish(reply, answer.into()).await {
                tracing::debug!("fleet: a question was not answered: {error}");
            }
        });
    }
}
