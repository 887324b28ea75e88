//! CrowdSec: the findings of this host protect others, and the findings of others protect this host.
//!
//! ```text
//! finding  -> alerts (pure)    -> queue -> task -> client -> Local API
//! Local API -> client -> task -> decisions (pure) -> orders -> the response's policy
//! ```
//! The Local API may be down, slow, restarted or wrong. Then findings wait in a bounded queue, and its last decisions
//! stay in force until they end.

pub mod alerts;
pub mod client;
pub mod decisions;
pub mod metrics;
pub mod settings;
mod task;
#[cfg(test)]
mod testing;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::timeout,
};

use self::{
    alerts::{Alert, Pushed},
    client::Client,
    decisions::{Decisions, Orders},
    settings::Settings,
};
use crate::{
    clock::Clock,
    crowdsec::metrics::{AlertOutcome, CrowdsecMetrics},
    detect::findings::{Event, Finding},
};

/// How many alerts may wait. Further ones are left out.
pub const QUEUE: usize = 1_000;
/// How long the end of the agent waits for the remaining alerts.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state that the tasks report.
#[derive(Debug)]
struct Progress {
    started: Instant,
    pulled: Option<Instant>,
    decisions: usize,
    pull_error: Option<String>,
    pushed: u64,
    left_out: u64,
    push_error: Option<String>,
}

/// Shared by the tasks and the agent.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Progress>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state for `scanguard status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CrowdsecStatus {
    /// `crowdsec.url`.
    pub url: String,
    /// The state of pushing; nothing if it is off.
    pub push: Option<PushStatus>,
    /// The state of pulling; nothing if it is off.
    pub pull: Option<PullStatus>,
}

/// The state of pushing findings.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PushStatus {
    /// Alerts that the Local API took.
    pub pushed: u64,
    /// Alerts that wait.
    pub queued: usize,
    /// Alerts that found no room in the queue, or were refused.
    pub left_out: u64,
    /// Why the last request failed.
    pub error: Option<String>,
}

/// The state of pulling decisions.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PullStatus {
    /// Decisions that are kept.
    pub decisions: usize,
    /// Seconds since the last usable answer; nothing: there was none.
    pub seconds_since_pull: Option<u64>,
    /// Why the last request failed.
    pub error: Option<String>,
}

/// The tasks that talk to a Local API. They end when this is dropped.
pub struct Link {
    settings: Settings,
    shared: Shared,
    alerts: Option<mpsc::Sender<Alert>>,
    orders: Option<mpsc::Receiver<Orders>>,
    pushed: Pushed,
    metrics: Arc<CrowdsecMetrics>,
    tasks: JoinSet<()>,
}

impl Link {
    /// Starts the parts that are switched on, if there are any.
    pub fn start(settings: &Settings, clock: Clock, metrics: Arc<CrowdsecMetrics>) -> Self {
        let shared = Shared(Arc::new(Mutex::new(Progress {
            started: Instant::now(),
            pulled: None,
            decisions: 0,
            pull_error: None,
            pushed: 0,
            left_out: 0,
            push_error: None,
        })));
        let mut link = Self {
            settings: settings.clone(),
            shared,
            alerts: None,
            orders: None,
            pushed: Pushed::default(),
            metrics,
            tasks: JoinSet::new(),
        };
        let Settings { url, timeout, machine, interval, max_decisions, .. } = settings;
        if settings.push || settings.pull {
            tracing::info!(push = settings.push, pull = settings.pull, "CrowdSec's Local API: {url}");
            if !url.is_private() {
                tracing::warn!(
                    "crowdsec.url: the connection to {url} is not encrypted, so that password and key can be read \
                     on the way"
                );
            }
        }
        let client = Client::new(url.clone(), *timeout);
        if let (true, Some(password)) = (settings.push, &settings.password) {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let credentials = task::Credentials { machine: machine.clone(), password: password.clone() };
            let (shared, metrics) = (link.shared.clone(), Arc::clone(&link.metrics));
            link.alerts = Some(sender);
            link.tasks.spawn(task::push(client.clone(), credentials, receiver, shared, metrics));
        }
        if let (true, Some(key)) = (settings.pull, &settings.key) {
            // One waiting answer is enough: the next request comes after it.
            let (sender, receiver) = mpsc::channel(1);
            let puller = task::Puller {
                client,
                key: key.clone(),
                interval: *interval,
                decisions: Decisions::new(machine, *max_decisions),
                clock,
                orders: sender,
                shared: link.shared.clone(),
                metrics: Arc::clone(&link.metrics),
            };
            link.orders = Some(receiver);
            link.tasks.spawn(puller.run());
        }
        link.observe();
        link
    }

    /// Changes the settings: the tasks start anew, and keep their knowledge about findings.
    pub fn restart(&mut self, settings: &Settings, clock: Clock) {
        if self.settings == *settings {
            return;
        }
        let mut next = Self::start(settings, clock, Arc::clone(&self.metrics));
        std::mem::swap(&mut next.pushed, &mut self.pushed);
        self.leave_out(self.queued());
        *self = next;
    }

    /// Pushes a finding, if it is new or changed: for each of its sources, whether the policy has banned it.
    pub fn see(&mut self, event: &Event, sources: impl FnOnce(&Finding) -> Vec<(IpNet, bool)>) {
        let Some(queue) = &self.alerts else {
            return;
        };
        let sources = sources(&event.finding);
        let remediation = sources.iter().any(|(_, banned)| *banned);
        if !self.pushed.is_news(event, remediation) {
            return;
        }
        let mut left_out = 0;
        for (net, banned) in sources {
            let alert = alerts::alert(&event.finding, net, banned, &self.settings.machine);
            match queue.try_send(alert) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => left_out += 1,
            }
        }
        self.leave_out(left_out);
        self.observe();
    }

    fn leave_out(&self, count: usize) {
        self.shared.lock().left_out += count as u64;
        self.metrics.alerts(AlertOutcome::LeftOut, count);
    }

    fn queued(&self) -> usize {
        self.alerts.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// The orders from decisions. Waits for ever if nothing is pulled.
    pub async fn next(&mut self) -> Orders {
        if let Some(orders) = &mut self.orders
            && let Some(orders) = orders.recv().await
        {
            return orders;
        }
        std::future::pending().await
    }

    /// Puts the state into the metrics.
    pub fn observe(&self) {
        self.metrics.queue(self.queued());
        if self.orders.is_some() {
            let progress = self.shared.lock();
            self.metrics.age(progress.pulled.unwrap_or(progress.started).elapsed());
        } else {
            self.metrics.age(Duration::ZERO);
        }
    }

    /// The state; nothing if it is off.
    pub fn status(&self) -> Option<CrowdsecStatus> {
        if self.alerts.is_none() && self.orders.is_none() {
            return None;
        }
        let progress = self.shared.lock();
        Some(CrowdsecStatus {
            url: self.settings.url.to_string(),
            push: self.alerts.as_ref().map(|_| PushStatus {
                pushed: progress.pushed,
                queued: self.queued(),
                left_out: progress.left_out,
                error: progress.push_error.clone(),
            }),
            pull: self.orders.as_ref().map(|_| PullStatus {
                decisions: progress.decisions,
                seconds_since_pull: progress.pulled.map(|pulled| pulled.elapsed().as_secs()),
                error: progress.pull_error.clone(),
            }),
        })
    }

    /// Pushes the waiting alerts, for a moment.
    pub async fn close(mut self) {
        self.orders = None;
        let queued = self.queued();
        self.alerts = None;
        // The tasks do not panic; a panic would be in the log.
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!("CrowdSec does not answer: up to {queued} alerts are not pushed");
        }
    }
}

#[cfg(test)]
mod tests;
