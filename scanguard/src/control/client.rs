//! The client of the control socket: sends requests to a running agent.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;
use tokio::{net::UnixStream, time::timeout};

use super::server::ErrorBody;
use crate::http_client::{Answer, exchange};

/// The largest answer: 60,000 bans with long reasons fit into it.
const MAX_ANSWER: usize = 64 << 20;
/// Time limit, longer than the agent takes at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// There is no answer, or the agent refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent listens.
    #[error(
        "no agent answers at {}: {error}. Is `scanguard run` running? If it uses another socket, name it with --socket",
        .path.display()
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The socket may not be used.
    #[error(
        "{}: permission denied. Only root, the agent's user and members of control.group may use it: try sudo, or log in \
         anew after `usermod -aG GROUP USER`",
        .0.display()
    )]
    Denied(PathBuf),
    /// The agent refused the request.
    #[error("{0}")]
    Refused(String),
    /// The agent did not take its configuration.
    #[error("{error}:\n{}", .problems.join("\n"))]
    Misconfigured {
        /// The result.
        error: String,
        /// All errors in the configuration.
        problems: Vec<String>,
    },
    /// The connection failed, or the answer is not from an agent.
    #[error("the agent at {}: {why}", .path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The fault.
        why: String,
    },
}

/// A client for one socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client for this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Sends a question and returns the answer's JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends an order and returns the answer's JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.send(Method::POST, path, body.into()).await
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let answer = timeout(PATIENCE, self.ask(method, path, body));
        answer.await.map_err(|_| self.broken(&"no answer in time"))?
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.path.clone()),
            _ => ClientError::NoAgent { path: self.path.clone(), error },
        })?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "scanguard")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let Answer { status, body } =
            exchange(stream, request, MAX_ANSWER).await.map_err(|error| self.broken(&error))?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(ErrorBody { error, problems }) if problems.is_empty() => ClientError::Refused(error),
                Ok(ErrorBody { error, problems }) => ClientError::Misconfigured { error, problems },
                Err(_) => self.broken(&format!("{status}: {}", String::from_utf8_lossy(&body))),
            }),
        }
    }
}
