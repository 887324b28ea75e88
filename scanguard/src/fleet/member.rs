//! A member: tells the fleet what this host sees, and takes its decisions.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap,
    jetstream::{self, Context},
};
use bytes::Bytes;
use futures_util::future::join_all;
use ipnet::IpNet;
use scanguard_common::address::Address;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    decisions::{self, Fences, Listener, Told},
    findings::{Findings, Sender},
    link::{Link, PATIENCE},
    metrics::{FleetMetrics, Outcome},
    queue::{self, Queue, Waiting},
    select::{LeftOut, Selector},
    settings::Settings,
    wire::{Batch, MAX_NAMED, MAX_SIGHTINGS, PARTITIONS, Place, VERSION, partition, sight},
};
use crate::{
    clock::Clock,
    detect::findings::Event,
    observe::{seen::Seen, tools::SynTools},
};

/// The time between two groups of messages.
const PAUSE: Duration = Duration::from_millis(200);
/// How many sightings go out at once.
const AT_ONCE: usize = 1_024;
/// How often the spool is written while no server takes anything, if it has changed.
const SPOOL_EVERY: Duration = Duration::from_secs(10);
/// How often own addresses are told again.
const OWN_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// How long the end of the agent waits for the remaining sightings.
const AT_THE_END: Duration = Duration::from_secs(2);

/// What waits to be told.
struct Outbox {
    queue: Queue,
    /// Services and own addresses that are told to all partitions.
    open: Vec<Place>,
    own: Vec<IpAddr>,
    own_told: Option<Instant>,
    acknowledged: u64,
    last_ack: Instant,
    /// Sightings in messages that no server has acknowledged.
    sending: usize,
}

impl Outbox {
    /// Sightings that no server has.
    fn waiting(&self) -> usize {
        self.queue.len() + self.sending
    }
}

/// Shared by the task and the agent.
#[derive(Clone)]
struct Shared(Arc<Mutex<Outbox>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state for `scanguard status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FleetStatus {
    /// The servers.
    pub servers: Vec<String>,
    /// The name of this host.
    pub name: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// Sightings that a server has stored.
    pub told: u64,
    /// Sightings that wait.
    pub waiting: usize,
    /// Why something failed last.
    pub error: Option<String>,
}

/// What the agent knows about what it saw.
pub struct Known<'k> {
    /// The network of a source.
    pub net: &'k dyn Fn(&Address) -> IpNet,
    /// Whether a rule found a source on evidence that nobody can forge.
    pub proven: &'k dyn Fn(&Address) -> bool,
    /// The list that names tools.
    pub tools: &'k SynTools,
    /// Whether most sources are forged just now.
    pub flooded: bool,
}

/// The tasks that talk to the servers. They end when this is dropped.
pub struct Member {
    settings: Settings,
    clock: Clock,
    metrics: Arc<FleetMetrics>,
    running: Option<Running>,
}

struct Running {
    shared: Shared,
    wake: Arc<Notify>,
    selector: Selector,
    findings: Findings,
    told: mpsc::Receiver<Told>,
    link: watch::Receiver<Option<Link>>,
    ending: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Member {
    /// Starts, if this host is a member.
    pub fn start(settings: &Settings, clock: Clock, metrics: Arc<FleetMetrics>) -> Self {
        let running = settings.is_on().then(|| Running::start(settings, clock, &metrics));
        let member = Self { settings: settings.clone(), clock, metrics, running };
        member.observe();
        member
    }

    /// Changes the settings: the tasks start anew.
    pub async fn restart(&mut self, settings: &Settings) {
        if self.settings == *settings {
            return;
        }
        if let Some(running) = self.running.take() {
            running.end().await;
        }
        *self = Self::start(settings, self.clock, Arc::clone(&self.metrics));
    }

    /// Whether this host is a member.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Takes what was seen, and how much of it found no room.
    pub fn see(&mut self, (seen, unnoted): (Vec<Seen>, u64), known: &Known<'_>) {
        let Some(Running { shared, wake, selector, .. }) = &mut self.running else {
            return;
        };
        self.metrics.sightings(Outcome::Unnoted, unnoted);
        let at = self.clock.now().at;
        let mut is_news = false;
        for seen in &seen {
            let tool = known.tools.names(seen.tools);
            let tool = tool.first().map(|name| &**name);
            let source = (known.net)(&seen.source);
            match selector.choose(seen, source, (known.proven)(&seen.source), tool, known.flooded, at) {
                Ok(chosen) => {
                    let mut outbox = shared.lock();
                    is_news |= chosen.sighting.is_some() || !chosen.open.is_empty();
                    if let Some(sighting) = chosen.sighting {
                        outbox.queue.push(sighting, at);
                    }
                    outbox.open.extend(chosen.open);
                }
                Err(LeftOut::Rate) => self.metrics.sightings(Outcome::Rate, 1),
                Err(LeftOut::Flood) => self.metrics.sightings(Outcome::Flood, 1),
            }
        }
        if is_news {
            let dropped = shared.lock().queue.take_dropped();
            self.metrics.sightings(Outcome::Dropped, dropped);
            wake.notify_one();
        }
    }

    /// Takes an event of a finding about a source.
    pub fn find(&self, event: &Event, source: IpNet) {
        if let Some(Running { findings, .. }) = &self.running {
            findings.push(event, source, self.clock.now().at, &self.metrics);
        }
    }

    /// Takes the addresses of this host, which the fleet spares.
    pub fn set_own(&mut self, own: impl Iterator<Item = IpAddr>) {
        let Some(Running { shared, wake, .. }) = &self.running else {
            return;
        };
        let mut own: Vec<_> = own.filter(|ip| !ip.is_loopback() && !is_link_local(*ip)).collect();
        own.sort_unstable();
        own.truncate(MAX_NAMED);
        let mut outbox = shared.lock();
        if outbox.own != own {
            outbox.own = own;
            outbox.own_told = None;
            wake.notify_one();
        }
    }

    /// The next decision. Waits for ever if this host is no member.
    pub async fn next(&mut self) -> Told {
        if let Some(running) = &mut self.running
            && let Some(told) = running.told.recv().await
        {
            return told;
        }
        std::future::pending().await
    }

    /// Puts the state into the metrics.
    pub fn observe(&self) {
        let Some(Running { shared, link, .. }) = &self.running else {
            self.metrics.state(false, 0, 0.0);
            return;
        };
        let connected = link.borrow().as_ref().is_some_and(|link| link.state().connected);
        let outbox = shared.lock();
        let waiting = outbox.waiting();
        let since = if waiting == 0 { 0.0 } else { outbox.last_ack.elapsed().as_secs_f64() };
        self.metrics.state(connected, waiting, since);
    }

    /// The state; nothing if this host is no member.
    pub fn status(&self) -> Option<FleetStatus> {
        let Running { shared, link, .. } = self.running.as_ref()?;
        let state = link.borrow().as_ref().map(Link::state).unwrap_or_default();
        let outbox = shared.lock();
        Some(FleetStatus {
            servers: self.settings.servers.iter().map(ToString::to_string).collect(),
            name: self.settings.name.clone(),
            connected: state.connected,
            told: outbox.acknowledged,
            waiting: outbox.waiting(),
            error: state.error(),
        })
    }

    /// Tells what waits, for a moment, and keeps the rest in the spool.
    pub async fn close(self) {
        if let Some(running) = self.running {
            running.end().await;
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

impl Running {
    fn start(settings: &Settings, clock: Clock, metrics: &Arc<FleetMetrics>) -> Self {
        let mut queue = Queue::default();
        let now = clock.now();
        match queue.load(&settings.spool, now) {
            Ok(0) => {}
            Ok(wrong) => {
                metrics.spool_failed();
                tracing::warn!("fleet.spool: {wrong} lines could not be read and are left out");
            }
            Err(error) => {
                metrics.spool_failed();
                tracing::error!("fleet.spool: {}: {error}", settings.spool.display());
                queue::move_aside(&settings.spool, now.wall);
            }
        }
        if !queue.is_empty() {
            tracing::info!("fleet: {} sightings of before are told", queue.len());
        }
        let shared = Shared(Arc::new(Mutex::new(Outbox {
            queue,
            open: Vec::new(),
            own: Vec::new(),
            own_told: None,
            acknowledged: 0,
            last_ack: Instant::now(),
            sending: 0,
        })));
        for server in settings.servers.iter().filter(|server| !server.is_private()) {
            tracing::warn!("fleet.url: the connection to {server} is not encrypted: use tls://");
        }
        let (tell, told) = mpsc::channel(decisions::QUEUE);
        let (opened, link) = watch::channel(None);
        let (ending, ended) = watch::channel(false);
        let wake = Arc::new(Notify::new());
        let findings = Findings::default();
        let mut tasks = JoinSet::new();
        let task = Task {
            settings: settings.clone(),
            clock,
            shared: shared.clone(),
            findings: findings.clone(),
            wake: Arc::clone(&wake),
            metrics: Arc::clone(metrics),
            ended,
            boot: super::random(),
            number: 0,
            unsent: Vec::new(),
            is_spooled: settings.spool.exists(),
        };
        tasks.spawn(task.run(opened, tell));
        Self { shared, wake, selector: Selector::new(now.at), findings, told, link, ending, tasks }
    }

    async fn end(mut self) {
        self.ending.send_replace(true);
        self.wake.notify_one();
        // It ends by itself, and its last deed is the spool. It does not panic; a panic would be in the log.
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(AT_THE_END + PATIENCE, ended).await.is_err() {
            tracing::warn!("fleet: the waiting sightings were neither told nor written");
        }
    }
}

/// What the task works with.
struct Task {
    settings: Settings,
    clock: Clock,
    shared: Shared,
    findings: Findings,
    wake: Arc<Notify>,
    metrics: Arc<FleetMetrics>,
    ended: watch::Receiver<bool>,
    /// See [`Batch::boot`].
    boot: u64,
    /// That of the last message.
    number: u64,
    /// Messages that no server has acknowledged.
    unsent: Vec<Outgoing>,
    /// Whether there is a file.
    is_spooled: bool,
}

/// A message that no server has acknowledged yet.
struct Outgoing {
    subject: String,
    /// It, without its sightings: they get their ages when it is sent.
    batch: Batch,
    sightings: Vec<Waiting>,
}

impl Outgoing {
    fn payload(&self, now: Duration) -> Bytes {
        let sightings = self.sightings.iter().map(|one| one.aged(now)).collect();
        // Plain data with names as keys: it can always be written.
        serde_json::to_vec(&Batch { sightings, ..self.batch.clone() }).unwrap_or_default().into()
    }
}

impl Task {
    async fn run(mut self, opened: watch::Sender<Option<Link>>, tell: mpsc::Sender<Told>) {
        let link = match Link::open(&self.settings, true).await {
            Ok(link) => link,
            Err(error) => {
                tracing::error!("fleet: this host goes on alone: {error}");
                return self.keep().await;
            }
        };
        opened.send_replace(Some(link.clone()));
        let listener = Listener {
            link: link.clone(),
            told: tell,
            metrics: Arc::clone(&self.metrics),
            fences: Fences::default(),
            last: 0,
            is_caught_up: false,
        };
        let mut ended = self.ended.clone();
        let (findings, metrics, name) =
            (self.findings.clone(), Arc::clone(&self.metrics), self.settings.name.clone());
        let clock = self.clock;
        let now = move || clock.now().at;
        let sender = Sender { name: &name, boot: self.boot, now: &now, metrics: &metrics };
        let (findings_link, findings_context) = (link.clone(), context(&link));
        tokio::select! {
            () = listener.run() => {}
            () = findings.publish(&findings_link, &findings_context, &sender) => {}
            () = self.publish(&link) => {}
            _ = ended.wait_for(|ended| *ended) => {}
        }
        // The last ones, for a moment.
        if link.state().connected {
            let _ = timeout(AT_THE_END, self.send_all(&link)).await;
        }
        self.keep().await;
    }

    /// Sends what waits until it is dropped.
    async fn publish(&mut self, link: &Link) {
        let mut written = Instant::now();
        let context = context(link);
        loop {
            self.collect();
            if self.unsent.is_empty() {
                if self.is_spooled {
                    self.keep().await;
                }
                let _ = timeout(SPOOL_EVERY, self.wake.notified()).await;
                self.collect();
            }
            if !self.unsent.is_empty() && link.state().connected {
                self.send(link, &context).await;
            }
            let is_due = !self.unsent.is_empty() && written.elapsed() >= SPOOL_EVERY;
            if is_due && self.shared.lock().queue.take_changed() {
                written = Instant::now();
                self.keep().await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends all that waits now.
    async fn send_all(&mut self, link: &Link) {
        let context = context(link);
        self.collect();
        while !self.unsent.is_empty() {
            self.send(link, &context).await;
            self.collect();
        }
    }

    /// Takes what waits, as messages, once those before were acknowledged.
    fn collect(&mut self) {
        if !self.unsent.is_empty() {
            return;
        }
        let mut outbox = self.shared.lock();
        let is_own_due =
            !outbox.own.is_empty() && outbox.own_told.is_none_or(|told| told.elapsed() >= OWN_EVERY);
        let own = if is_own_due { outbox.own.clone() } else { Vec::new() };
        if is_own_due {
            outbox.own_told = Some(Instant::now());
        }
        let named = outbox.open.len().min(MAX_NAMED);
        let open: Vec<_> = outbox.open.drain(..named).collect();
        let mut by_partition: BTreeMap<u8, Vec<Waiting>> = BTreeMap::new();
        if !own.is_empty() || !open.is_empty() {
            by_partition.extend((0..PARTITIONS).map(|partition| (partition, Vec::new())));
        }
        let taken = outbox.queue.take(AT_ONCE);
        outbox.sending = taken.len();
        for waiting in taken {
            by_partition.entry(partition(waiting.sighting.source)).or_default().push(waiting);
        }
        drop(outbox);
        for (partition, waiting) in by_partition {
            let mut waiting = waiting.into_iter();
            loop {
                let part: Vec<_> = waiting.by_ref().take(MAX_SIGHTINGS).collect();
                self.number += 1;
                let batch = Batch {
                    v: VERSION,
                    boot: self.boot,
                    n: self.number,
                    own: own.clone(),
                    open: open.clone(),
                    sightings: Vec::new(),
                };
                let subject = sight(partition, &self.settings.name);
                self.unsent.push(Outgoing { subject, batch, sightings: part });
                if waiting.len() == 0 {
                    break;
                }
            }
        }
    }

    /// Sends messages at once. Those that were acknowledged are removed.
    async fn send(&mut self, link: &Link, context: &Context) {
        let Self { unsent, metrics, shared, settings, clock, .. } = self;
        let now = clock.now().at;
        let sent = unsent.iter().map(|message| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", message.batch.id(&settings.name));
            let (subject, payload) = (message.subject.clone(), message.payload(now));
            async move {
                let bytes = payload.len();
                let ack = context.publish_with_headers(subject, headers, payload).await;
                match ack {
                    Ok(ack) => ack.await.map(|_| bytes).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        });
        let outcomes = join_all(sent).await;
        let mut error = None;
        let mut outcomes = outcomes.into_iter();
        unsent.retain(|message| match outcomes.next() {
            Some(Ok(bytes)) => {
                metrics.acknowledged(bytes, message.sightings.len());
                let mut outbox = shared.lock();
                outbox.acknowledged += message.sightings.len() as u64;
                outbox.sending = outbox.sending.saturating_sub(message.sightings.len());
                outbox.last_ack = Instant::now();
                false
            }
            Some(Err(why)) => {
                metrics.failed();
                error = Some(why);
                true
            }
            None => true,
        });
        link.note("tell sightings", error);
    }

    /// Writes what waits, and what was sent and not acknowledged, to the spool.
    async fn keep(&mut self) {
        let sent = self.unsent.iter().flat_map(|message| &message.sightings);
        let lines = self.shared.lock().queue.lines(sent, self.clock.now());
        self.is_spooled = !lines.is_empty();
        let path: PathBuf = self.settings.spool.clone();
        let shown = path.display().to_string();
        let written = spawn_blocking(move || queue::write(&path, &lines)).await;
        if let Ok(Err(error)) = written {
            self.metrics.spool_failed();
            tracing::error!("fleet.spool: {shown}: {error}");
        }
    }
}

fn context(link: &Link) -> Context {
    let mut context = jetstream::new(link.client.clone());
    context.set_timeout(PATIENCE);
    context
}
