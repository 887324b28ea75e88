//! Questions to the instances, and their answers: `scanguard fleet status` and `scanguard fleet explain`.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::fleet::{
    correlate::{Correlator, MemberReport, ToldFinding, ToldFindings},
    link::{Link, PATIENCE},
    settings::Settings,
    wire::{Decision, partition},
};

/// How long instances may take to answer.
const WAIT: Duration = Duration::from_secs(1);
/// How many members an answer lists: those that are left aside, and those that were quiet for longest.
const MAX_MEMBERS: usize = 1_000;

/// How many findings a partition names.
const LAST_FINDINGS: usize = 5;

/// A question to a partition.
pub(super) enum Ask {
    Status(oneshot::Sender<PartitionReport>),
    Explain(IpNet, oneshot::Sender<Vec<String>>),
}

/// A decision of late.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RecentReport {
    /// How many seconds ago it was made.
    pub seconds_ago: u64,
    /// It.
    pub decision: Decision,
}

/// The state of a partition.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PartitionReport {
    /// Its number.
    pub partition: u8,
    /// The revision of the lease.
    pub lease: u64,
    /// Whether the window was read.
    pub is_read: bool,
    /// How many milliseconds old the last message was when it was read.
    pub lag: u64,
    /// Sources that are remembered.
    pub sources: usize,
    /// Decisions in force.
    pub in_force: usize,
    /// The last decisions.
    pub recent: Vec<RecentReport>,
    /// Findings of single members within the window.
    #[serde(default)]
    pub findings: usize,
    /// The last of them: seconds ago, and in words.
    #[serde(default)]
    pub last_findings: Vec<(u64, String)>,
    /// The members.
    #[serde(default)]
    pub members: Vec<MemberReport>,
}

impl PartitionReport {
    pub(super) fn new(
        partition: u8,
        lease: u64,
        is_read: bool,
        lag: Duration,
        correlator: &Correlator,
        found: &ToldFindings,
        now: Duration,
    ) -> Self {
        let in_words = |told: &ToldFinding| (now.saturating_sub(told.at).as_secs(), told.line(now));
        let recent = correlator.recent().map(|recent| RecentReport {
            seconds_ago: now.saturating_sub(recent.at).as_secs(),
            decision: Decision { evidence: Vec::new(), ..recent.decision.clone() },
        });
        Self {
            partition,
            lease,
            is_read,
            lag: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            sources: correlator.sources(),
            in_force: correlator.in_force(),
            recent: recent.collect(),
            findings: found.len(),
            last_findings: found.last(LAST_FINDINGS).into_iter().map(in_words).collect(),
            members: correlator.members(now),
        }
    }
}

/// The state of an instance.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct InstanceReport {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
    /// How many members it heard.
    pub members_heard: usize,
    /// Some of them, over all partitions.
    pub members: Vec<MemberReport>,
}

/// The answer to a question; none: it is no question for this instance.
pub(super) async fn answer(
    kind: &str,
    payload: &[u8],
    name: &str,
    parts: &[(u8, mpsc::Sender<Ask>)],
) -> Option<Vec<u8>> {
    match kind {
        "status" => {
            let mut partitions = Vec::new();
            for (_, part) in parts {
                let (send, answer) = oneshot::channel();
                part.try_send(Ask::Status(send)).ok();
                partitions.extend(timeout(WAIT, answer).await.ok().and_then(Result::ok));
            }
            let mut members: BTreeMap<String, MemberReport> = BTreeMap::new();
            for report in partitions.iter_mut().flat_map(|partition| std::mem::take(&mut partition.members)) {
                join(&mut members, report);
            }
            let members_heard = members.len();
            let mut members: Vec<_> = members.into_values().collect();
            members.sort_by_key(|member| (member.aside.is_none(), u64::MAX - member.seconds_since_last));
            members.truncate(MAX_MEMBERS);
            let report = InstanceReport { name: name.to_owned(), partitions, members_heard, members };
            serde_json::to_vec(&report).ok()
        }
        "explain" => {
            let net: IpNet = std::str::from_utf8(payload).ok()?.parse().ok()?;
            let (_, part) = parts.iter().find(|(number, _)| *number == partition(net))?;
            let (send, answer) = oneshot::channel();
            part.try_send(Ask::Explain(net, send)).ok()?;
            serde_json::to_vec(&timeout(WAIT, answer).await.ok()?.ok()?).ok()
        }
        _ => None,
    }
}

/// Adds what a partition, or an instance, knows of a member.
fn join(members: &mut BTreeMap<String, MemberReport>, report: MemberReport) {
    match members.get_mut(&report.name) {
        None => {
            members.insert(report.name.clone(), report);
        }
        Some(known) => {
            known.seconds_since_last = known.seconds_since_last.min(report.seconds_since_last);
            known.messages += report.messages;
            known.aside = known.aside.take().or(report.aside);
        }
    }
}

/// Asks all instances, and gives what came within a second, or the first answer if one is enough.
///
/// # Errors
/// There is no connection, or nobody answers.
pub async fn ask(
    settings: &Settings,
    kind: &str,
    payload: String,
    one_is_enough: bool,
) -> Result<Vec<bytes::Bytes>, String> {
    let link = Link::open(settings, false).await.map_err(|error| error.to_string())?;
    let mut connections = link.connections.clone();
    let connected = timeout(PATIENCE, connections.wait_for(|times| *times > 0)).await;
    if connected.is_err() {
        let why = link.state().error().unwrap_or_else(|| "no answer".to_owned());
        return Err(format!("{}: {why}", settings.servers[0]));
    }
    let inbox = link.client.new_inbox();
    let mut answers = link.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    link.client
        .publish_with_reply(format!("sg.v1.ask.{kind}"), inbox, payload.into())
        .await
        .map_err(|error| error.to_string())?;
    let mut came = Vec::new();
    let collect = async {
        while let Some(answer) = answers.next().await {
            if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                return;
            }
            came.push(answer.payload);
            if one_is_enough {
                return;
            }
        }
    };
    let _ = timeout(2 * WAIT, collect).await;
    if came.is_empty() {
        return Err(
            "no instance of `scanguard fleet run` answers: does one run, with these servers and this account?".to_owned(),
        );
    }
    Ok(came)
}
