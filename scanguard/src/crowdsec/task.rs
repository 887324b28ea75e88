//! The two tasks: one pushes the alerts from a queue, the other pulls decisions. Neither ever gives up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::mpsc, time::sleep};

use super::{
    Shared,
    alerts::Alert,
    client::{Client, ClientError, Token},
    decisions::{Decisions, Orders},
};
use crate::{
    clock::Clock,
    crowdsec::metrics::{AlertOutcome, CrowdsecMetrics, Request},
    secret::Secret,
};

/// How many alerts one request has.
const BATCH: usize = 50;
/// How often an alert is sent that the Local API refuses. It also says 500 when the problem is its own.
const TRIES: u32 = 3;
/// The wait after the first failure. Each further one is twice as long, plus a random time of up to the same length,
/// so that not all hosts call at once when a Local API comes back.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait, without the random time.
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How long before its end a login is renewed.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// How often all decisions are pulled even without a failed request. This corrects what was lost on either side.
const RESYNC: Duration = Duration::from_secs(60 * 60);

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LAST_WAIT)
        .without_max_times()
        .with_jitter()
        .build()
}

async fn wait(waits: &mut ExponentialBackoff) {
    sleep(waits.next().unwrap_or(LAST_WAIT)).await;
}

/// The credentials for pushing.
pub(super) struct Credentials {
    pub(super) machine: String,
    pub(super) password: Secret,
}

/// Pushes alerts until nobody can send any more and the queue is empty.
pub(super) async fn push(
    client: Client,
    credentials: Credentials,
    mut alerts: mpsc::Receiver<Alert>,
    shared: Shared,
    metrics: Arc<CrowdsecMetrics>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut token = None;
    while alerts.recv_many(&mut batch, BATCH).await > 0 {
        let mut waits = waits();
        let mut refusals = 0;
        loop {
            let sent = send(&client, &credentials, &mut token, &batch, &metrics).await;
            note(&shared, sent.as_ref().err(), "push findings", |progress| &mut progress.push_error);
            match sent {
                Ok(()) => {
                    shared.lock().pushed += batch.len() as u64;
                    metrics.alerts(AlertOutcome::Pushed, batch.len());
                    break;
                }
                Err(error) if error.is_refusal() => {
                    refusals += 1;
                    if refusals >= TRIES {
                        tracing::error!(
                            "CrowdSec refuses {} alerts, which are left out: {error}",
                            batch.len()
                        );
                        shared.lock().left_out += batch.len() as u64;
                        metrics.alerts(AlertOutcome::Refused, batch.len());
                        break;
                    }
                }
                Err(_) => {}
            }
            wait(&mut waits).await;
        }
        batch.clear();
    }
}

/// Logs in if necessary, and sends.
async fn send(
    client: &Client,
    credentials: &Credentials,
    token: &mut Option<Token>,
    batch: &[Alert],
    metrics: &CrowdsecMetrics,
) -> Result<(), ClientError> {
    let soon = Timestamp::now().saturating_add(MARGIN).unwrap_or(Timestamp::MAX);
    if let Some(valid) = token.as_ref().filter(|token| token.expires > soon) {
        let sent = client.push(valid, batch).await;
        metrics.asked(Request::Alerts, &sent);
        // A Local API that was installed anew, or has another clock, does not know an older login.
        if !sent.as_ref().is_err_and(ClientError::is_unauthorized) {
            return sent;
        }
    }
    *token = None;
    let login = client.login(&credentials.machine, &credentials.password).await;
    metrics.asked(Request::Login, &login);
    let sent = client.push(token.insert(login?), batch).await;
    metrics.asked(Request::Alerts, &sent);
    sent
}

/// Pulls decisions.
pub(super) struct Puller {
    pub(super) client: Client,
    pub(super) key: Secret,
    pub(super) interval: Duration,
    pub(super) decisions: Decisions,
    pub(super) clock: Clock,
    pub(super) orders: mpsc::Sender<Orders>,
    pub(super) shared: Shared,
    pub(super) metrics: Arc<CrowdsecMetrics>,
}

impl Puller {
    /// Runs until nobody wants orders any more.
    pub(super) async fn run(mut self) {
        let mut waits = waits();
        // When all decisions were last pulled; nothing: they have to be.
        let mut synced: Option<Instant> = None;
        loop {
            let full = synced.is_none_or(|synced| synced.elapsed() >= RESYNC);
            let asked = Instant::now();
            let answer = self.client.decisions(&self.key, full).await;
            self.metrics.asked(Request::Decisions, &answer);
            note(&self.shared, answer.as_ref().err(), "pull decisions", |progress| &mut progress.pull_error);
            match answer {
                Ok(stream) => {
                    // The durations in the answer count from this time at most.
                    let orders = self.decisions.take(stream, full, self.clock.now().at);
                    {
                        let mut progress = self.shared.lock();
                        progress.pulled = Some(Instant::now());
                        progress.decisions = orders.kept;
                    }
                    self.metrics.decided(&orders);
                    if self.orders.send(orders).await.is_err() {
                        return;
                    }
                    if full {
                        synced = Some(asked);
                    }
                    waits = self::waits();
                    sleep(self.interval).await;
                }
                Err(_) => {
                    // The Local API may believe that this lost answer was delivered.
                    synced = None;
                    wait(&mut waits).await;
                }
            }
        }
    }
}

/// Remembers the result of a request, and logs it if it has changed.
fn note(
    shared: &Shared,
    error: Option<&ClientError>,
    doing: &str,
    place: fn(&mut super::Progress) -> &mut Option<String>,
) {
    let said = error.map(ToString::to_string);
    let before = std::mem::replace(place(&mut shared.lock()), said.clone());
    match (&before, &said) {
        (Some(_), None) => tracing::info!("CrowdSec answers again: can {doing}"),
        (before, Some(said)) if before.as_ref() != Some(said) => {
            tracing::warn!("CrowdSec: cannot {doing}, trying again: {said}");
        }
        (None, None) | (_, Some(_)) => {}
    }
}
