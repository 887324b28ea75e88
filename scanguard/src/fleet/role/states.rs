//! Keeps snapshots of a partition in a stream, and gets the last one. Nothing here is fatal: without a snapshot, the
//! window is read.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        Context,
        context::PublishErrorKind,
        message::StreamMessage,
        stream::{DirectGetErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::{sync::watch, time::timeout};

use super::lease::Lease;
use crate::fleet::{
    snapshot::{Head, PIECE, Read, SLOTS, Unusable},
    wire::{STATES, state_head, state_piece},
};

/// How long reading a snapshot may take: then the window is read instead.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many pieces are asked for at once.
const AT_ONCE: usize = 16;

/// The state of the snapshots of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// The number of the head in the stream; 0: there is none. The next one can be written only by an instance that knows it.
    head: u64,
    /// The slot that counts.
    slot: Option<u8>,
}

/// A snapshot that was found.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) bytes: Vec<u8>,
}

/// Why a snapshot was not written.
pub(super) enum NotWritten {
    /// The present holder of the lease has written one: this worker writes no more.
    Outdated,
    /// In words.
    Failed(String),
}

impl Kept {
    /// Gets the last snapshot for whoever has the lease `fence`, with streams that are at `streams`.
    pub(super) async fn load(
        &mut self,
        context: &Context,
        partition: u8,
        fence: u64,
        streams: Read,
        times: (Duration, Duration),
    ) -> Result<Found, (Unusable, String)> {
        let loaded = timeout(PATIENCE, self.get(context, partition, fence, streams, times)).await;
        loaded.unwrap_or_else(|_| Err((Unusable::Broken, format!("no answer within {PATIENCE:?}"))))
    }

    async fn get(
        &mut self,
        context: &Context,
        partition: u8,
        fence: u64,
        streams: Read,
        (now, window): (Duration, Duration),
    ) -> Result<Found, (Unusable, String)> {
        let missing = |error: String| (Unusable::Missing, error);
        let stream = context.get_stream_no_info(STATES).await.map_err(|error| missing(error.to_string()))?;
        let message = last(&stream, state_head(partition)).await.map_err(missing)?;
        let message = message.ok_or_else(|| missing("there is none yet".to_owned()))?;
        self.head = message.sequence;
        let said = |why: Unusable| (why, "its head".to_owned());
        let head = Head::parse(&message.payload).map_err(said)?;
        self.slot = Some(head.slot);
        head.check(fence, streams, now, window).map_err(said)?;
        let (stream, slot) = (&stream, head.slot);
        let one = |piece| async move {
            let message = last(stream, state_piece(partition, slot, piece)).await;
            let message = message.map_err(|error| (Unusable::Broken, error))?;
            let message = message.ok_or_else(|| (Unusable::Broken, format!("piece {piece} is missing")))?;
            if message.payload.len() > PIECE {
                return Err((Unusable::Broken, format!("piece {piece} is too large")));
            }
            Ok(message.payload)
        };
        let pieces: Vec<Bytes> =
            futures_util::stream::iter(0..head.pieces()).map(one).buffered(AT_ONCE).try_collect().await?;
        let bytes = pieces.concat();
        head.verify(&bytes).map_err(|why| (why, "its pieces".to_owned()))?;
        Ok(Found { head, bytes })
    }

    /// Writes a snapshot, as long as the lease lasts.
    pub(super) async fn save(
        mut self,
        context: &Context,
        partition: u8,
        lease: &watch::Receiver<Option<Lease>>,
        (bytes, at, read): (Vec<u8>, Duration, Read),
    ) -> (Self, Result<(), NotWritten>) {
        let fence = || lease.borrow().and_then(|lease| lease.token());
        let slot = self.slot.map_or(0, |slot| (slot + 1) % SLOTS);
        for (piece, bytes) in (0..).zip(bytes.chunks(PIECE)) {
            if fence().is_none() {
                return (self, Err(lease_over()));
            }
            let subject = state_piece(partition, slot, piece);
            let sent = context.publish(subject, Bytes::copy_from_slice(bytes)).await;
            let stored = match sent {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = stored {
                return (self, Err(NotWritten::Failed(error.to_string())));
            }
        }
        let Some(fence) = fence() else { return (self, Err(lease_over())) };
        let head = Head::new(&bytes, fence, at, read, slot);
        let result = self.put_head(context, partition, &head).await;
        (self, result)
    }

    async fn put_head(&mut self, context: &Context, partition: u8, head: &Head) -> Result<(), NotWritten> {
        let failed = |error: String| NotWritten::Failed(error);
        let payload = serde_json::to_vec(head).map_err(|error| failed(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, self.head.to_string());
        let sent = context.publish_with_headers(state_head(partition), headers, payload.into()).await;
        let stored = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(ack) => {
                *self = Self { head: ack.sequence, slot: Some(head.slot) };
                Ok(())
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                // An earlier holder may have written one when its lease was about to end, a later one ends this.
                let stream =
                    context.get_stream_no_info(STATES).await.map_err(|error| failed(error.to_string()))?;
                let other = last(&stream, state_head(partition)).await.map_err(failed)?;
                let known = other.as_ref().and_then(|message| Head::parse(&message.payload).ok());
                if known.as_ref().is_some_and(|other| other.fence > head.fence) {
                    return Err(NotWritten::Outdated);
                }
                *self = Self {
                    head: other.map_or(0, |message| message.sequence),
                    slot: known.map(|known| known.slot),
                };
                Err(failed("another instance wrote one meanwhile".to_owned()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn lease_over() -> NotWritten {
    NotWritten::Failed("the lease was not renewed".to_owned())
}

/// The last message of a subject, if there is one.
async fn last(stream: &Stream<()>, subject: String) -> Result<Option<StreamMessage>, String> {
    match stream.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
