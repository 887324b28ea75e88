//! Answers to the requests of the control socket.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use scanguard_common::{
    address::Address,
    outcome::{Exit, ProbeClass},
};

use super::{
    agent::Agent,
    reload::{LoopState, NotReloaded},
};
use crate::{
    cidr::name,
    content::{Proof, summary::Summary},
    control::{
        Answer, Ask, Request,
        listing::{ACTIVE, Findings, Picture, RATE, Sort, SourceReport, Sources, Status, Unwatched},
    },
    detect::findings::Direction,
    logs::task::Logs,
    observe::{greatest, history::History},
    pipeline::Pipeline,
    respond::{
        orders::{self, OrderError},
        questions,
        report::{Done, Explanation, HistoryReport},
    },
    words,
};

/// Answers a request of the control socket.
pub(super) async fn answer(agent: &mut Agent, request: Request, state: &mut LoopState) {
    // The client has already received a timeout, or has gone. The request is not carried out behind its back.
    if request.answer.is_closed() {
        let Request { peer, ask, .. } = request;
        return tracing::info!(%peer, "the client is gone: its request {ask:?} is not carried out");
    }
    let now = agent.clock.now();
    let answer = match request.ask {
        Ask::Order(order) => {
            match orders::carry_out(&mut agent.responder, order, request.peer.uid, now, &mut agent.sensor) {
                Ok(done) => Answer::Done(done),
                Err(error) => Answer::Refused(error),
            }
        }
        Ask::Reload => match state.reload(agent, "as was asked").await {
            Ok(done) => Answer::Done(done),
            Err(NotReloaded::Wrong(problems)) => Answer::Misconfigured(problems),
            Err(NotReloaded::Kernel(error)) => Answer::Refused(OrderError::Kernel(error)),
        },
        // Each ban is looked up in the kernel.
        Ask::Bans => Answer::Bans(tokio::task::block_in_place(|| {
            questions::bans(&agent.responder, None, now, &agent.sensor)
        })),
        Ask::Status => Answer::Status(Box::new(status(agent, &state.logs))),
        Ask::Explain(address) => Answer::Explanation(Box::new(explain(agent, address))),
        // This walks through the whole memory once: up to a million histories.
        Ask::Sources { rows, sort } => {
            Answer::Sources(tokio::task::block_in_place(|| sources(agent, rows, sort)))
        }
        Ask::Findings(rows) => Answer::Findings(tokio::task::block_in_place(|| findings(agent, rows, true))),
        Ask::Actors(rows) => match &agent.leaving {
            Some(leaving) => Answer::Actors(leaving.list(rows)),
            None => Answer::Refused(OrderError::NothingLeaves),
        },
        Ask::ExplainActors(pattern) => match &agent.leaving {
            Some(leaving) => {
                let reports = leaving.reports(&pattern, now, |finding| {
                    questions::open_finding(&agent.responder, finding, now).finding
                });
                if reports.matching == 0 {
                    Answer::Refused(OrderError::UnknownActor(pattern.to_string()))
                } else {
                    Answer::ActorReports(reports)
                }
            }
            None => Answer::Refused(OrderError::NothingLeaves),
        },
        Ask::ForgetActors(pattern) => match agent.leaving.as_mut().map(|leaving| leaving.forget(&pattern)) {
            Some(0) => Answer::Refused(OrderError::UnknownProgram(pattern.to_string())),
            Some(count) => {
                let said = format!(
                    "{} forgotten: they are new when they are seen again",
                    words::count(count, "program")
                );
                Answer::Done(Done { said, notes: Vec::new() })
            }
            None => Answer::Refused(OrderError::NothingLeaves),
        },
        Ask::Picture(rows) => Answer::Picture(tokio::task::block_in_place(|| {
            Box::new(Picture {
                status: status(agent, &state.logs),
                sources: sources(agent, rows, Sort::Rate),
                findings: findings(agent, rows, false),
                bans: questions::bans(&agent.responder, Some(rows), now, &agent.sensor),
            })
        })),
    };
    agent.reset_released();
    // The client may have gone.
    let _ = request.answer.send(answer);
    agent.state_writer.keep(&mut agent.responder, now).await;
}

fn status(agent: &Agent, logs: &Logs) -> Status {
    let now = agent.clock.now();
    let attached = agent.attachments.states();
    let tally = agent.pipeline.tally();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: now.at.as_secs(),
        interfaces: attached
            .map(|(name, mode)| (name.to_owned(), mode.map(|mode| mode.to_string())))
            .collect(),
        fallbacks: agent.attachments.fallbacks().clone(),
        unwatched: agent
            .gaps
            .iter()
            .map(|(name, gap)| {
                let unwatched = Unwatched { seconds: gap.length.as_secs_f64(), said: gap.to_string() };
                (name.clone(), unwatched)
            })
            .collect(),
        egress: agent
            .attachments
            .egress_states()
            .map(|(name, way)| (name.to_owned(), way.map(|way| way.to_string())))
            .collect(),
        packets: some(Exit::ALL.map(|exit| (exit.label(), tally.exit(exit)))),
        mostly_not_ip: agent.not_ip.is_most(),
        probes: some(ProbeClass::ALL.map(|class| (class.label(), tally.probe(class)))),
        findings_open: agent.open().count(),
        response: questions::status(&agent.responder, now, agent.state_writer.error()),
        crowdsec: agent.crowdsec.status(),
        fleet: agent.fleet.status(),
        unread_logs: logs.unread(),
        sandbox: agent.sandbox.as_ref().map(|sandbox| sandbox.report().clone()),
    }
}

fn explain(agent: &Agent, address: IpAddr) -> Explanation {
    let now = agent.clock.now();
    let Pipeline { observer, detector, .. } = &agent.pipeline;
    let mut explanation =
        questions::explain(&agent.responder, address, &mut detector.tracker().open(), now, &agent.sensor);
    let source = agent.responder.source(address);
    let stats = detector.visitors().of(&source, Proof::Connection);
    explanation.said = stats.map(|stats| Summary::from(stats).to_string());
    explanation.history = observer.history(&source).map(|history| {
        let window = history.window(now.at, now.at);
        HistoryReport {
            probes: window.activity.counts.by_name(),
            completed: window.activity.completed(),
            seconds_since_first: now.at.saturating_sub(window.first).as_secs(),
            seconds_since_last: now.at.saturating_sub(history.last()).as_secs(),
        }
    });
    explanation
}

fn sources(agent: &Agent, rows: usize, sort: Sort) -> Sources {
    let at = agent.clock.now().at;
    let Pipeline { observer, .. } = &agent.pipeline;
    let since = at.saturating_sub(ACTIVE);
    let (sources, active) = observer.greatest(since, rows, |history| {
        let first = match sort {
            Sort::Rate => history.probes_within(at, RATE),
            Sort::Probes => history.probes(),
            Sort::Last => 0,
        };
        (first, history.last())
    });
    let tally = agent.pipeline.tally();
    Sources {
        polled: agent.last_poll,
        packets: tally.exits.iter().sum(),
        probes: tally.probes.iter().sum(),
        remembered: observer.len(),
        active,
        sources: sources
            .into_iter()
            .map(|(source, history)| of_source(agent, &source, history, at))
            .collect(),
    }
}

/// Updates the metrics of the sources that probe fastest, if they are configured.
pub(super) fn show_top_sources(agent: &Agent) {
    let top = match agent.config.metrics.top_sources {
        0 => BTreeMap::new(),
        // This also walks through all histories once.
        rows => tokio::task::block_in_place(|| sources(agent, rows as usize, Sort::Rate))
            .sources
            .into_iter()
            .filter(|source| source.per_second > 0.0)
            .map(|source| (name(source.net), source.per_second))
            .collect(),
    };
    agent.metrics.top_sources.show(top);
}

fn of_source(agent: &Agent, source: &Address, history: &History, at: Duration) -> SourceReport {
    let tracker = agent.pipeline.detector.tracker();
    let window = history.window(at, at);
    let activity = &window.activity;
    let origin = tracker.geo().origin(source);
    let net = agent.responder.net(source);
    SourceReport {
        net,
        per_second: history.probes_within(at, RATE) as f64 / RATE.as_secs_f64(),
        probes: activity.counts.total(),
        classes: activity.counts.by_name(),
        services: activity.services().value.max(activity.open_services().value),
        hosts: activity.hosts().value.max(activity.open_hosts().value),
        completed: activity.completed(),
        seconds_since_first: at.saturating_sub(window.first).as_secs(),
        seconds_since_last: at.saturating_sub(history.last()).as_secs(),
        country: origin.country.map(|country| country.to_string()),
        network: origin.network.map(|network| network.to_string()),
        rules: tracker.of(source).iter().map(|finding| finding.rule.to_owned()).collect(),
        ban: questions::ban_state(&agent.responder, net),
    }
}

/// The open findings. Command lines and users of processes are not `whole`, for the page, which others may see.
fn findings(agent: &Agent, rows: usize, whole: bool) -> Findings {
    let now = agent.clock.now();
    let mut open = 0;
    let keys = agent.open().map(|one| (one.last, one.source, one.id.as_str(), one.direction()));
    let latest = greatest(keys.inspect(|_| open += 1), rows);
    let findings = latest.into_iter().filter_map(|(_, source, id, direction)| {
        let finding = agent.open_of(&source, direction).iter().find(|finding| finding.id == id)?;
        let mut open = questions::open_finding(&agent.responder, finding, now);
        if let (Direction::Outbound, Some(leaving)) = (direction, &agent.leaving) {
            open.finding.policy = leaving.explain(finding, now);
        }
        if !whole {
            open.actor = finding.actor.as_ref().map(|actor| actor.class());
            open.command = None;
        }
        Some(open)
    });
    let findings = findings.collect();
    Findings { open, findings }
}

/// The counts that are not zero, by name, the most frequent first.
fn some<const N: usize>(counts: [(&str, u64); N]) -> Vec<(String, u64)> {
    let mut some: Vec<_> =
        counts.into_iter().filter(|(_, n)| *n > 0).map(|(label, n)| (label.to_owned(), n)).collect();
    some.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    some
}
