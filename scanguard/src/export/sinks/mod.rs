//! Alert sinks: the outputs of findings. Each has a bounded queue and its own task or thread, so that none can slow
//! down or stop the sensor or another sink.
//!
//! ```text
//! Sinks::tell -> inbox (bounded) -> worker (backoff) -> file, socket, HTTP ...
//! ```

mod alertmanager;
mod alerts;
mod caller;
mod file;
mod journald;
pub mod metrics;
mod queue;
pub mod settings;
mod stdout;
mod syslog;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod webhook;
mod worker;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use self::{
    alertmanager::Alertmanager,
    alerts::AlertTable,
    file::File,
    journald::Journald,
    metrics::{Lost, Series, SinkMetrics},
    queue::Queue,
    settings::{Kind, Settings, Sink},
    stdout::Stdout,
    syslog::Syslog,
    webhook::Webhook,
    worker::Worker,
};
use super::{
    forms::{Context, Formatter},
    writer::stdout_formatter,
};
use crate::{
    clock::Now,
    detect::findings::{Event, EventKind, Finding},
};

/// How long the sinks may finish their queues when the agent ends.
const FLUSH: Duration = Duration::from_secs(2);
/// How long a sink may take to stop when told to.
const STOP: Duration = Duration::from_millis(200);

/// A worker's source of events. Adding one never waits.
trait Inbox: Send + Sync {
    /// Adds an event; without room, the loss is counted.
    fn push(&self, event: &Arc<Event>);
    /// Nothing more will come: the worker ends after the remaining events.
    fn close(&self);
    /// How many events are not delivered yet.
    fn left(&self) -> usize;
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a worker runs.
#[derive(Clone, Copy)]
enum Place {
    /// As a task of the runtime: it never blocks.
    Task,
    /// In its own thread: it may wait for a disk or a pipe for ever, and is then abandoned.
    Thread,
}

/// A running sink.
struct Running {
    sink: Sink,
    inbox: Arc<dyn Inbox>,
    series: Series,
    /// Closed when the worker has ended.
    ended: oneshot::Receiver<()>,
    /// Dropped to stop the worker.
    stop: oneshot::Sender<()>,
}

/// All sinks.
pub struct Sinks {
    running: Vec<Running>,
    metrics: Arc<SinkMetrics>,
    context: Context,
}

impl Sinks {
    /// No sinks, until they are configured.
    pub fn new(ipv6_prefix: u8, metrics: Arc<SinkMetrics>) -> Self {
        Self { running: Vec::new(), metrics, context: Context::here(ipv6_prefix) }
    }

    /// Sends an event to all sinks. Returns at once.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        for running in &self.running {
            running.take(&event);
        }
    }

    /// Applies the settings. Unchanged sinks continue undisturbed. The others end, which another task awaits; new
    /// ones start, and receive the findings in `open`.
    pub fn reconfigure(&mut self, settings: &Settings, open: &mut dyn Iterator<Item = &Finding>, now: Now) {
        let mut before = std::mem::take(&mut self.running);
        let mut started = Vec::new();
        for sink in &settings.0 {
            match before.iter().position(|running| running.sink == *sink) {
                Some(place) => self.running.push(before.swap_remove(place)),
                None => started.push(sink),
            }
        }
        let gone: Vec<_> = before.iter().map(|running| running.sink.name.clone()).collect();
        for running in before {
            // While a sink's name is in use, its series stay exported.
            let series = (!settings.0.iter().any(|sink| sink.name == running.sink.name))
                .then(|| running.series.clone());
            tokio::spawn(async move {
                running.finish(Instant::now() + FLUSH).await;
                if let Some(series) = series {
                    series.forget();
                }
            });
        }
        let started: Vec<_> =
            started.into_iter().map(|sink| start(sink, &self.context, &self.metrics)).collect();
        if started.is_empty() && gone.is_empty() {
            return;
        }
        let names: Vec<_> = started.iter().map(|running| running.sink.name.as_str()).collect();
        tracing::info!("alert sinks: started {}; ended {}", list(&names), list(&gone));
        for finding in open {
            let event =
                Arc::new(Event { time: now.wall, kind: EventKind::Updated, finding: finding.clone() });
            // A log already has these events. A sink that shows the current state needs them again.
            for running in started.iter().filter(|running| running.sink.kind.shows_state()) {
                running.take(&event);
            }
        }
        self.running.extend(started);
    }

    /// Gives the sinks a moment to deliver their queues. Lost events are counted and logged.
    pub async fn finish(self) {
        let deadline = Instant::now() + FLUSH;
        for running in &self.running {
            running.inbox.close();
        }
        for running in self.running {
            running.finish(deadline).await;
        }
    }
}

fn list(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
    }
}

impl Running {
    fn take(&self, event: &Arc<Event>) {
        // A sink that shows the current state must also learn when a finding has become less severe.
        if self.sink.kind.shows_state() || event.finding.severity >= self.sink.min_severity {
            self.inbox.push(event);
        }
    }

    async fn finish(self, deadline: Instant) {
        let Self { sink, inbox, series, mut ended, stop } = self;
        inbox.close();
        if timeout_at(deadline, &mut ended).await.is_ok() {
            return;
        }
        drop(stop);
        // A thread that waits for a disk or a pipe does not notice this.
        let _ = tokio::time::timeout(STOP, ended).await;
        let left = inbox.left();
        if left > 0 {
            series.dropped(Lost::Ended, left);
            tracing::error!("sink {}: ended with {left} events that could not be delivered", sink.name);
        }
    }
}

fn start(sink: &Sink, context: &Context, metrics: &Arc<SinkMetrics>) -> Running {
    let series = metrics.of(&sink.name, sink.queue);
    let formatter = |format| Formatter::plain(format, context.clone());
    let queue = || Arc::new(Queue::new(sink.queue as usize, series.clone()));
    let name = sink.name.clone();
    let (inbox, place, work): (Arc<dyn Inbox>, Place, Work) = match &sink.kind {
        Kind::Stdout { format } => {
            let queue = queue();
            let stdout = Stdout::new(stdout_formatter(*format, context.clone()));
            let worker = Worker::new(name, stdout, Arc::clone(&queue), series.clone());
            (queue, Place::Thread, Box::pin(worker.run()))
        }
        Kind::File { path, format } => {
            let queue = queue();
            let worker =
                Worker::new(name, File::new(path, formatter(*format)), Arc::clone(&queue), series.clone());
            (queue, Place::Thread, Box::pin(worker.run()))
        }
        Kind::Journald { socket } => {
            let queue = queue();
            let worker =
                Worker::new(name, Journald::new(socket, context), Arc::clone(&queue), series.clone());
            (queue, Place::Task, Box::pin(worker.run()))
        }
        Kind::Syslog { transport, facility, format } => {
            let queue = queue();
            let syslog = Syslog::new(transport.clone(), *facility, formatter(*format));
            let worker = Worker::new(name, syslog, Arc::clone(&queue), series.clone());
            (queue, Place::Task, Box::pin(worker.run()))
        }
        Kind::Webhook(settings) => {
            let queue = queue();
            let webhook = Webhook::new(settings, context);
            let worker = Worker::new(name, webhook, Arc::clone(&queue), series.clone());
            (queue, Place::Task, Box::pin(worker.run()))
        }
        Kind::Alertmanager(settings) => {
            let table =
                Arc::new(AlertTable::new(sink.queue as usize, sink.min_severity, context, series.clone()));
            let worker = Alertmanager::new(name, settings, Arc::clone(&table), series.clone());
            (table, Place::Task, Box::pin(worker.run()))
        }
    };
    let (ended, stop) = spawn(place, &sink.name, work);
    Running { sink: sink.clone(), inbox, series, ended, stop }
}

fn spawn(place: Place, name: &str, work: Work) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (end, ended) = oneshot::channel::<()>();
    let (stop, stopped) = oneshot::channel::<()>();
    let work = async move {
        tokio::select! {
            () = work => {}
            _ = stopped => {}
        }
        drop(end);
    };
    match place {
        Place::Task => drop(tokio::spawn(work)),
        Place::Thread => {
            let runtime = Handle::current();
            // Linux shows 15 bytes of the name.
            let thread = std::thread::Builder::new().name(format!("sink {name}"));
            if let Err(error) = thread.spawn(move || runtime.block_on(work)) {
                tracing::error!("sink {name}: no thread could be started, so it gets no events: {error}");
            }
        }
    }
    (ended, stop)
}
