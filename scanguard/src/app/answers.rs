//! What the control socket is answered.

use std::net::IpAddr;

use super::agent::Agent;
use crate::{
    content::{Proof, summary::Summary},
    control::{Answer, Ask, Request},
    pipeline::Pipeline,
    respond::report::{Explanation, HistoryReport, Status},
};

impl Agent {
    /// Answers a request of the control socket.
    pub(super) async fn answer(&mut self, request: Request) {
        let now = self.clock.now();
        let answer = match request.ask {
            Ask::Order(order) => match self.responder.order(order, request.peer.uid, now, &mut self.sensor) {
                Ok(done) => Answer::Done(done),
                Err(error) => Answer::Refused(error),
            },
            // Each ban is looked up in the kernel.
            Ask::Bans => Answer::Bans(tokio::task::block_in_place(|| self.responder.bans(now, &self.sensor))),
            Ask::Status => Answer::Status(Box::new(self.status())),
            Ask::Explain(address) => Answer::Explanation(Box::new(self.explain(address))),
        };
        // Who asked may have gone.
        let _ = request.answer.send(answer);
        self.keeper.keep(&mut self.responder, now).await;
    }

    fn status(&self) -> Status {
        let now = self.clock.now();
        let attached = self.attachments.states();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now.at.as_secs(),
            interfaces: attached
                .map(|(name, mode)| (name.to_owned(), mode.map(|mode| mode.to_string())))
                .collect(),
            findings_open: self.pipeline.detector.tracker().open().count(),
            response: self.responder.status(now, self.keeper.error()),
            crowdsec: self.crowdsec.status(),
        }
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        let now = self.clock.now();
        let Pipeline { observer, detector, .. } = &self.pipeline;
        let mut explanation =
            self.responder.explain(address, &mut detector.tracker().open(), now, &self.sensor);
        let source = self.responder.source(address);
        let heard = detector.visitors().of(&source, Proof::Connection);
        explanation.said = heard.map(|heard| Summary::from(heard).to_string());
        explanation.history = observer.history(&source).map(|history| {
            let window = history.window(now.at, now.at);
            let counts = window.activity.counts.by_frequency();
            HistoryReport {
                probes: counts.iter().map(|(class, count)| (class.label().to_owned(), *count)).collect(),
                completed: window.activity.completed(),
                seconds_since_first: now.at.saturating_sub(window.first).as_secs(),
                seconds_since_last: now.at.saturating_sub(history.last()).as_secs(),
            }
        });
        explanation
    }
}
