//! HTTP over connections of strangers. Everything has a time limit and a size limit, and the number of connections is
//! limited.
//!
//! Slow clients are cut off. If there is no room, the client that has kept the server waiting longest is removed. So
//! somebody who opens connections and sends nothing keeps nobody out.

mod connection;
pub mod metrics;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::{AbortHandle, Id, JoinSet},
    time::{Instant, sleep, timeout},
};

pub(crate) use self::connection::hold;
use self::metrics::{CutOff, ServerMetrics};
pub(crate) use self::state::State;

/// The pause after an error of accept(2), such as too many open files.
const RETRY: Duration = Duration::from_millis(200);
/// How long the current requests may take when the server ends.
const DRAIN: Duration = Duration::from_secs(3);

/// The limits for a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of connections at once.
    pub connections: usize,
    /// Time from the beginning of a connection, or the end of an answer, to the end of the next request's head. This
    /// includes the handshake of TLS.
    pub head: Duration,
    /// Time from there to the end of the answer. Answers without an end (server-sent events) have no limit.
    pub request: Duration,
    /// A client that takes nothing of its answer for this long is gone.
    pub stall: Duration,
    /// Length of a head in bytes. hyper needs 8 KiB at least.
    pub max_head: usize,
    /// Length of a request's body in bytes.
    pub max_body: usize,
}

/// A source of connections.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until `shutdown`, then finishes the current requests within a time limit. `open` gives the stream and the
/// service of a connection.
pub async fn serve<L, O, F, S>(
    listener: L,
    limits: Limits,
    metrics: ServerMetrics,
    open: O,
    shutdown: impl Future<Output = ()>,
) where
    L: Listener,
    O: Fn(L::Stream) -> F,
    F: Future<Output = io::Result<(S, Router)>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    metrics.limit(limits.connections);
    let (stop, stopped) = watch::channel(());
    let mut room = Room { limits, metrics, open: HashMap::new(), tasks: JoinSet::new() };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            // In this order: a flood of connections must not prevent the end, or hide that others have left.
            biased;
            () = &mut shutdown => break,
            Some(ended) = room.tasks.join_next_with_id() => room.left(ended),
            accepted = listener.accept() => match accepted {
                Ok(stream) => room.take(open(stream), stopped.clone()).await,
                Err(error) => {
                    room.metrics.accept_failed();
                    tracing::warn!("a connection could not be accepted: {error}");
                    sleep(RETRY).await;
                }
            },
        }
    }
    drop((listener, stop, stopped));
    let drained = async {
        while let Some(ended) = room.tasks.join_next_with_id().await {
            room.left(ended);
        }
    };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("{} connections were cut off in the middle of an answer", room.open.len());
    }
}

/// The present connections.
struct Room {
    limits: Limits,
    metrics: ServerMetrics,
    open: HashMap<Id, Open>,
    tasks: JoinSet<Result<(), CutOff>>,
}

struct Open {
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Room {
    /// Gives a new connection a place. If necessary, it takes that of the client that has kept the server waiting
    /// longest.
    async fn take<S>(
        &mut self,
        opening: impl Future<Output = io::Result<(S, Router)>> + Send + 'static,
        stopped: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.metrics.accepted();
        if self.open.len() >= self.limits.connections {
            let now = Instant::now();
            let longest = self
                .open
                .iter()
                .filter_map(|(id, one)| Some((one.state.borrow().kept_since(now)?, *id)))
                .min_by_key(|(since, _)| *since);
            let Some(displaced) = longest.and_then(|(_, id)| self.open.remove(&id)) else {
                return self.metrics.cut_off(CutOff::NoRoom);
            };
            displaced.task.abort();
            self.metrics.cut_off(CutOff::Displaced);
            // Its descriptor should be free before the next connection is accepted.
            while self.tasks.len() >= self.limits.connections
                && let Some(ended) = self.tasks.join_next_with_id().await
            {
                self.left(ended);
            }
        }
        let state = Arc::new(watch::Sender::new(State::new()));
        let watched = state.subscribe();
        let task = self.tasks.spawn(hold(opening, self.limits, state, stopped));
        self.open.insert(task.id(), Open { state: watched, task });
        self.metrics.connections(self.open.len());
    }

    fn left(&mut self, ended: Result<(Id, Result<(), CutOff>), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, Ok(()))) => id,
            Ok((id, Err(why))) => {
                self.metrics.cut_off(why);
                id
            }
            // It was replaced, which was counted, or a handler panicked, which was logged.
            Err(error) => error.id(),
        };
        self.open.remove(&id);
        self.metrics.connections(self.open.len());
    }
}
