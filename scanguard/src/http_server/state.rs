//! What a connection is at, and since when.

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

/// An answer that takes longer waits for its client, and the client's seat may be given to another.
const QUICK: Duration = Duration::from_secs(1);

/// What a connection is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// The client is to say something.
    Waiting,
    /// It is being answered.
    Answering,
    /// It is sent an answer that has no end.
    Streaming,
}

/// Since when it is at that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(super) phase: Phase,
    since: Instant,
}

impl State {
    /// Of a connection that begins.
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

    /// What it is then.
    pub(super) fn overdue(&self) -> CutOff {
        match self.phase {
            Phase::Waiting => CutOff::HeadTimeout,
            Phase::Answering | Phase::Streaming => CutOff::RequestTimeout,
        }
    }

    /// Since when the client has kept us; none: it has not.
    pub(super) fn kept_since(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Waiting => Some(self.since),
            Phase::Answering => (now.duration_since(self.since) > QUICK).then_some(self.since),
            Phase::Streaming => None,
        }
    }
}

/// Bytes of an answer that hyper gets at once. It lets go of a body as soon as it has all of it, taken by the client or
/// not: in pieces, all but the last of them have been taken by then.
const PIECE: usize = 16 * 1024;

/// The body of an answer; when it has gone, the client is waited for again.
pub(super) struct Answer {
    body: Body,
    /// What is left of a frame of it.
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
