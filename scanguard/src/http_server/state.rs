//! The phase of a connection, and when it began.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{sync::watch, time::Instant};

use super::Limits;
use super::metrics::CutOff;

/// After this time, an answer waits for its client, and the connection's place may go to another one.
const QUICK: Duration = Duration::from_secs(1);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// The client should send a request.
    Waiting,
    /// The server is answering.
    Answering,
    /// The server is sending an answer without an end.
    Streaming,
}

/// A phase, and when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(super) phase: Phase,
    since: Instant,
}

impl State {
    /// For a new connection.
    pub(crate) fn new() -> Self {
        Self::at(Phase::Waiting)
    }

    pub(super) fn at(phase: Phase) -> Self {
        Self { phase, since: Instant::now() }
    }

    /// When it has lasted too long.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.phase {
            Phase::Waiting => Some(self.since + limits.head),
            Phase::Answering => Some(self.since + limits.request),
            Phase::Streaming => None,
        }
    }

    /// Why it is then ended.
    pub(super) fn overdue(&self) -> CutOff {
        match self.phase {
            Phase::Waiting => CutOff::HeadTimeout,
            Phase::Answering | Phase::Streaming => CutOff::RequestTimeout,
        }
    }

    /// Since when the client has kept the server waiting; nothing if it has not.
    pub(super) fn kept_since(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Waiting => Some(self.since),
            Phase::Answering => (now.duration_since(self.since) > QUICK).then_some(self.since),
            Phase::Streaming => None,
        }
    }
}

/// How many bytes of an answer hyper gets at once. hyper drops a body when it has all of it, whether the client has
/// taken it or not. In pieces, the client has taken all but the last of them by then.
const PIECE: usize = 16 * 1024;

/// The body of an answer. When it is dropped, the server waits for the client again.
pub(super) struct Answer {
    body: Body,
    /// The rest of a frame.
    rest: Bytes,
    state: Arc<watch::Sender<State>>,
}

impl Answer {
    pub(super) fn new(body: Body, state: Arc<watch::Sender<State>>) -> Self {
        Self { body, rest: Bytes::new(), state }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.state.send_replace(State::at(Phase::Waiting));
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower() + rest);
        if let Some(upper) = left.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
