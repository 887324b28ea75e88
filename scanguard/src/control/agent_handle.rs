//! A handle to the agent's main task. The control socket and the page use it to put questions and orders.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Answer, Ask, Request, peer::Peer};

/// How long the main task may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Sends questions to the main task and returns its answers.
#[derive(Clone, Debug)]
pub struct AgentHandle(mpsc::Sender<Request>);

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

impl AgentHandle {
    /// A handle that sends to this channel.
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// No answer came.
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
