//! Alertmanager, by its API v2 (`POST /api/v2/alerts`): alerts fire as long as their findings are open, and are told again
//! meanwhile, since Alertmanager takes one that it does not hear of for resolved.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Uri, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    alerts::{Alert, Board, Labels},
    caller::{Caller, JSON},
    metrics::Series,
    worker::{Failure, Spell, delays},
};

/// Alerts in one request: some 250 kB.
const BATCH: usize = 256;
/// An alert that is not told again ends after so many intervals, as Prometheus has it.
const MISSED: i32 = 4;
/// Alerts that come within this time go together.
const GATHER: Duration = Duration::from_millis(100);

/// What of the configuration is this sink's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where Alertmanager is, with what is before `/api/v2/alerts`.
    pub url: Uri,
    /// How often alerts that fire are told again.
    pub resend: Duration,
    /// More headers of requests.
    pub headers: HeaderMap,
}

/// The worker.
pub(super) struct Alertmanager {
    caller: Caller,
    resend: Duration,
    board: Arc<Board>,
    series: Series,
    spell: Spell,
}

/// postableAlert of Alertmanager's api/v2/openapi.yaml.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Alertmanager {
    pub(super) fn new(name: String, settings: &Settings, board: Arc<Board>, series: Series) -> Self {
        let url = format!("{}/api/v2/alerts", settings.url.to_string().trim_end_matches('/'));
        let caller = Caller::new(url, settings.headers.clone());
        Self { caller, resend: settings.resend, board, series, spell: Spell::new(name) }
    }

    /// Until the board is closed and all is told.
    pub(super) async fn run(mut self) {
        let mut again = Instant::now() + self.resend;
        let mut failures = None;
        loop {
            let all = tokio::select! {
                () = sleep_until(again) => true,
                () = self.board.changed() => {
                    if !self.board.is_closed() {
                        sleep(GATHER).await;
                    }
                    false
                }
            };
            match self.send(all).await {
                Ok(()) => {
                    failures = None;
                    if all {
                        again = Instant::now() + self.resend;
                    }
                }
                Err(failure) => {
                    self.series.failed();
                    self.spell.failed(&failure);
                    let delay = failures.get_or_insert_with(delays).next().unwrap_or(self.resend);
                    let delay =
                        if self.board.is_closed() { delay.min(GATHER) } else { delay.min(self.resend) };
                    // Alerts that fire go with the next attempt, too: Alertmanager may have been started anew.
                    tokio::select! {
                        () = sleep(delay) => {}
                        () = self.board.closing() => {}
                    }
                    again = Instant::now();
                }
            }
            if self.board.is_closed() && self.board.batch(1, false, None).is_empty() {
                return;
            }
        }
    }

    /// Tells what is not known, or all, in as many requests as it takes.
    async fn send(&mut self, all: bool) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let batch = self.board.batch(BATCH, all, after.as_ref());
            let Some(last) = batch.last() else {
                return Ok(());
            };
            after = Some(last.labels.clone());
            match self.post(&batch).await {
                Ok(()) => {
                    self.board.told(&batch);
                    self.series.sent_many(batch.len());
                    self.spell.worked();
                }
                Err(failure @ Failure::Refused(_)) => {
                    self.series.failed();
                    self.spell.failed(&failure);
                    self.board.refused(&batch);
                }
                Err(failure @ (Failure::Away(_) | Failure::Unable(_))) => return Err(failure),
            }
        }
    }

    async fn post(&self, batch: &[Alert]) -> Result<(), Failure> {
        let valid =
            SignedDuration::try_from(self.resend).unwrap_or(SignedDuration::MAX).saturating_mul(MISSED);
        let silent = Timestamp::now().checked_add(valid).unwrap_or(Timestamp::MAX);
        let alerts: Vec<_> = batch
            .iter()
            .map(|alert| PostableAlert {
                labels: &alert.labels,
                annotations: &alert.annotations,
                // A clock that was set back must not end an alert before it began: Alertmanager refuses that.
                starts_at: alert.starts_at.min(alert.ends_at.unwrap_or(silent)),
                ends_at: alert.ends_at.unwrap_or(silent),
            })
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        self.caller.post(headers, Bytes::from(serde_json::to_vec(&alerts)?)).await
    }
}
