//! Alertmanager, by its API v2 (`POST /api/v2/alerts`). Alerts fire while their findings are open. They are sent
//! again and again, because Alertmanager resolves an alert that it does not hear about.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Uri, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    alerts::{Alert, AlertTable, Labels},
    caller::{Caller, JSON},
    metrics::Series,
    worker::{Failure, FailureLog, delays},
};

/// Alerts in one request: about 250 kB.
const BATCH: usize = 256;
/// An alert that is not sent again ends after this many intervals, as in Prometheus.
const MISSED: i32 = 4;
/// Alerts that arrive within this time are sent together.
const GATHER: Duration = Duration::from_millis(100);

/// The settings of this sink only.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The URL of Alertmanager, without `/api/v2/alerts`.
    pub url: Uri,
    /// How often firing alerts are sent again.
    pub resend: Duration,
    /// More headers of requests.
    pub headers: HeaderMap,
}

/// The worker.
pub(super) struct Alertmanager {
    caller: Caller,
    resend: Duration,
    table: Arc<AlertTable>,
    series: Series,
    failures: FailureLog,
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
    pub(super) fn new(name: String, settings: &Settings, table: Arc<AlertTable>, series: Series) -> Self {
        let url = format!("{}/api/v2/alerts", settings.url.to_string().trim_end_matches('/'));
        let caller = Caller::new(url, settings.headers.clone());
        Self { caller, resend: settings.resend, table, series, failures: FailureLog::new(name) }
    }

    /// Runs until the table is closed and everything is sent.
    pub(super) async fn run(mut self) {
        let mut again = Instant::now() + self.resend;
        let mut failures = None;
        loop {
            let all = tokio::select! {
                () = sleep_until(again) => true,
                () = self.table.changed() => {
                    if !self.table.is_closed() {
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
                    self.failures.failed(&failure);
                    let delay = failures.get_or_insert_with(delays).next().unwrap_or(self.resend);
                    let delay =
                        if self.table.is_closed() { delay.min(GATHER) } else { delay.min(self.resend) };
                    // The next attempt includes the firing alerts: Alertmanager may have restarted.
                    tokio::select! {
                        () = sleep(delay) => {}
                        () = self.table.closing() => {}
                    }
                    again = Instant::now();
                }
            }
            if self.table.is_closed() && self.table.batch(1, false, None).is_empty() {
                return;
            }
        }
    }

    /// Sends the unsent alerts, or all of them, in as many requests as needed.
    async fn send(&mut self, all: bool) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let batch = self.table.batch(BATCH, all, after.as_ref());
            let Some(last) = batch.last() else {
                return Ok(());
            };
            after = Some(last.labels.clone());
            match self.post(&batch).await {
                Ok(()) => {
                    self.table.acknowledged(&batch);
                    self.series.sent_many(batch.len());
                    self.failures.worked();
                }
                Err(failure @ Failure::Refused(_)) => {
                    self.series.failed();
                    self.failures.failed(&failure);
                    self.table.refused(&batch);
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
                // After the clock was set back, an alert must not end before it began: Alertmanager refuses that.
                starts_at: alert.starts_at.min(alert.ends_at.unwrap_or(silent)),
                ends_at: alert.ends_at.unwrap_or(silent),
            })
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        self.caller.post(headers, Bytes::from(serde_json::to_vec(&alerts)?)).await
    }
}
