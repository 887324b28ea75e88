//! The table of alerts for Alertmanager: firing ones, ended ones, and which of them are not sent yet. Pure.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    super::forms::{Context, names::SourceName},
    Inbox,
    metrics::{Lost, Series},
};
use crate::detect::{
    Severity,
    findings::{Direction, Event, EventKind, Finding},
};

/// The labels of an alert. They identify it in Alertmanager.
pub(super) type Labels = BTreeMap<&'static str, String>;

/// An alert.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) labels: Labels,
    pub(super) annotations: Labels,
    pub(super) starts_at: Timestamp,
    /// The end of the alert, if it has ended.
    pub(super) ends_at: Option<Timestamp>,
    /// Grows with each change, so that a change during sending is sent, too.
    version: u64,
    /// The version that Alertmanager has.
    known: u64,
}

/// The alerts, with a limit. An ended alert is kept until its end is sent.
pub(super) struct AlertTable {
    state: Mutex<State>,
    news: Notify,
    closing: Notify,
    limit: usize,
    min_severity: Severity,
    host: String,
    ipv6_prefix: u8,
    series: Series,
}

#[derive(Default)]
struct State {
    alerts: BTreeMap<Labels, Alert>,
    /// The labels of each open finding's alert. They must be stored, because a finding's rule and severity may
    /// change.
    of_finding: BTreeMap<String, Labels>,
    closed: bool,
}

impl AlertTable {
    /// An empty table.
    pub(super) fn new(limit: usize, min_severity: Severity, context: &Context, series: Series) -> Self {
        let Context { ipv6_prefix, host } = context.clone();
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            closing: Notify::new(),
            limit,
            min_severity,
            host,
            ipv6_prefix,
            series,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an unsent change, or for the end.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Waits until the table is closed; returns once only.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Whether the table is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// At most `limit` alerts: the unsent ones, or (`all`) any.
    pub(super) fn batch(&self, limit: usize, all: bool, after: Option<&Labels>) -> Vec<Alert> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state();
        let from = after.map_or(Unbounded, Excluded);
        let wanted = state.alerts.range((from, Unbounded)).map(|(_, alert)| alert);
        wanted.filter(|alert| all || alert.known < alert.version).take(limit).cloned().collect()
    }

    /// Notes that Alertmanager has these alerts.
    pub(super) fn acknowledged(&self, batch: &[Alert]) {
        let mut state = self.state();
        for sent in batch {
            if let Some(alert) = state.alerts.get_mut(&sent.labels) {
                alert.known = alert.known.max(sent.version);
                if alert.ends_at.is_some() && alert.known == alert.version {
                    state.alerts.remove(&sent.labels);
                }
            }
        }
        self.series.queued(state.alerts.len());
    }

    /// Notes that Alertmanager refused these alerts for good.
    pub(super) fn refused(&self, batch: &[Alert]) {
        let unknown = batch.iter().filter(|alert| alert.known < alert.version).count();
        self.series.dropped(Lost::Refused, unknown);
        self.acknowledged(batch);
    }

    fn labels(&self, finding: &Finding) -> Labels {
        let source = SourceName::of(finding, self.ipv6_prefix);
        Labels::from([
            ("alertname", "ScanGuardFinding".to_owned()),
            ("instance", self.host.clone()),
            ("rule", finding.rule.to_owned()),
            ("severity", finding.severity.label().to_owned()),
            // A pid would make another alert of each process.
            ("source", finding.actor.as_ref().map_or_else(|| source.to_string(), |actor| actor.class())),
        ])
    }
}

fn annotations(finding: &Finding) -> Labels {
    let techniques: Vec<_> = finding.techniques.iter().map(|technique| technique.id()).collect();
    let mut annotations = Labels::from([
        ("confidence", finding.confidence.label().to_owned()),
        ("description", finding.reason.clone()),
        ("finding", finding.id.clone()),
        ("spoofable", finding.spoofable.to_string()),
        ("summary", summary(finding)),
        ("techniques", techniques.join(" ")),
    ]);
    if let Some(actor) = &finding.actor {
        annotations.insert("actor", actor.to_string());
        annotations.extend(actor.origin().map(|origin| ("command", origin)));
    }
    if finding.origin != crate::detect::geo::Origin::default() {
        annotations.insert("origin", finding.origin.to_string());
    }
    annotations
}

fn summary(finding: &Finding) -> String {
    match finding.direction() {
        Direction::Inbound => format!("{} seen from the network", finding.rule),
        Direction::Outbound => format!("{} by somebody on this host", finding.rule),
    }
}

impl State {
    /// Ends an alert. Its end must still be sent.
    fn end(&mut self, labels: &Labels, at: Timestamp) {
        if let Some(alert) = self.alerts.get_mut(labels) {
            alert.ends_at = Some(at);
            alert.version += 1;
        }
    }

    /// Makes room for one more by removing an ended alert, which Alertmanager resolves by itself. Returns whether
    /// there is room.
    fn make_room(&mut self, limit: usize, series: &Series) -> bool {
        if self.alerts.len() < limit {
            return true;
        }
        let ended = self.alerts.values().filter(|alert| alert.ends_at.is_some());
        let Some(oldest) = ended.min_by_key(|alert| alert.ends_at).map(|alert| alert.labels.clone()) else {
            return false;
        };
        self.alerts.remove(&oldest);
        series.dropped(Lost::Full, 1);
        true
    }
}

impl Inbox for AlertTable {
    fn push(&self, event: &Arc<Event>) {
        let Event { time, kind, finding } = &**event;
        let mut state = self.state();
        let before = state.of_finding.get(&finding.id).cloned();
        let fires = *kind != EventKind::Closed && finding.severity >= self.min_severity;
        let labels = self.labels(finding);
        if let Some(before) = before.filter(|before| !fires || *before != labels) {
            state.end(&before, *time);
            state.of_finding.remove(&finding.id);
        }
        if fires {
            if !state.alerts.contains_key(&labels) && !state.make_room(self.limit, &self.series) {
                return self.series.dropped(Lost::Full, 1);
            }
            state.of_finding.insert(finding.id.clone(), labels.clone());
            let version = state.alerts.get(&labels).map_or(1, |alert| alert.version + 1);
            let known = state.alerts.get(&labels).map_or(0, |alert| alert.known);
            let (annotations, starts_at) = (annotations(finding), finding.first);
            let alert =
                Alert { labels: labels.clone(), annotations, starts_at, ends_at: None, version, known };
            state.alerts.insert(labels, alert);
        }
        self.series.queued(state.alerts.len());
        drop(state);
        self.news.notify_one();
    }

    fn close(&self) {
        self.state().closed = true;
        self.news.notify_one();
        self.closing.notify_one();
    }

    fn left(&self) -> usize {
        self.state().alerts.values().filter(|alert| alert.known < alert.version).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::sinks::testing::{event, series};

    fn table(limit: usize) -> AlertTable {
        let context = Context { ipv6_prefix: 64, host: "edge1".to_owned() };
        AlertTable::new(limit, Severity::Medium, &context, series())
    }

    fn push(table: &AlertTable, id: u8, kind: EventKind, severity: Severity) {
        let mut event = event(id);
        event.kind = kind;
        event.finding.severity = severity;
        table.push(&Arc::new(event));
    }

    fn unknown(table: &AlertTable) -> Vec<(String, bool)> {
        let batch = table.batch(100, false, None);
        batch.iter().map(|alert| (alert.labels["severity"].clone(), alert.ends_at.is_some())).collect()
    }

    #[test]
    fn an_alert_is_kept_while_it_fires_and_until_its_end_is_known() {
        let table = table(10);
        push(&table, 1, EventKind::Opened, Severity::Medium);
        table.acknowledged(&table.batch(100, false, None));
        assert_eq!(unknown(&table), []);
        assert_eq!(table.batch(100, true, None).len(), 1, "told again and again");
        push(&table, 1, EventKind::Closed, Severity::Medium);
        assert_eq!(unknown(&table), [("medium".to_owned(), true)]);
        table.acknowledged(&table.batch(100, false, None));
        assert_eq!(table.batch(100, true, None).len(), 0);
    }

    #[test]
    fn a_change_while_an_alert_is_under_way_is_sent_too() {
        let table = table(10);
        push(&table, 1, EventKind::Opened, Severity::Medium);
        let under_way = table.batch(100, false, None);
        push(&table, 1, EventKind::Closed, Severity::Medium);
        table.acknowledged(&under_way);
        assert_eq!(unknown(&table), [("medium".to_owned(), true)]);
    }

    #[test]
    fn a_finding_whose_labels_change_ends_one_alert_and_begins_another() {
        let table = table(10);
        push(&table, 1, EventKind::Opened, Severity::Medium);
        push(&table, 1, EventKind::Updated, Severity::High);
        assert_eq!(unknown(&table), [("high".to_owned(), false), ("medium".to_owned(), true)]);
        // Below the sink's minimum severity.
        push(&table, 1, EventKind::Updated, Severity::Low);
        assert_eq!(unknown(&table), [("high".to_owned(), true), ("medium".to_owned(), true)]);
    }

    #[test]
    fn the_table_is_bounded_and_gives_up_what_has_ended_first() {
        let table = table(2);
        for id in 1..=3 {
            push(&table, id, EventKind::Opened, Severity::Medium);
        }
        assert_eq!(table.left(), 2, "no room for the third");
        push(&table, 1, EventKind::Closed, Severity::Medium);
        push(&table, 4, EventKind::Opened, Severity::Medium);
        let sources: Vec<_> =
            table.batch(100, true, None).iter().map(|alert| alert.labels["source"].clone()).collect();
        assert_eq!(sources, ["192.0.2.2", "192.0.2.4"]);
    }
}
