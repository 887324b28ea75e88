//! Where questions and orders are put to the agent's main task, by whoever serves people: the control socket, the page.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Answer, Ask, Request, peer::Peer};

/// How long the main task may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Hands questions on, and gives the answers.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Request>);

/// There is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoAnswer {
    /// The main task has ended.
    #[error("the agent is ending")]
    Ending,
    /// It takes too long.
    #[error("the agent did not answer in time")]
    Late,
}

impl Desk {
    /// One at the way to the main task.
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// None came.
    pub async fn ask(&self, peer: Peer, ask: Ask) -> Result<Answer, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let handed_on = async {
            let sent = self.0.send(Request { peer, ask, answer }).await;
            sent.map_err(|_| NoAnswer::Ending)?;
            answered.await.map_err(|_| NoAnswer::Ending)
        };
        timeout(ANSWER, handed_on).await.unwrap_or(Err(NoAnswer::Late))
    }
}
