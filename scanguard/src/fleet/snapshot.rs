//! Snapshots of partitions: in which pieces they are kept, and which of them may be used. Pure.
//!
//! A snapshot lies in pieces in one of two slots of its partition. The head says which slot counts, and is written last,
//! so that a snapshot is there as a whole or not at all. The next holder reads the messages that came after
//! what the head names.

use std::time::Duration;

use scanguard_common::numbered;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The form of what is in a snapshot. Another one is not read.
pub const FORM: u32 = 1;
/// The largest snapshot.
pub const MOST_BYTES: u32 = 24 << 20;
/// The largest piece: a server that an earlier `scanguard fleet init` configured takes 128 KiB, with headers.
pub const PIECE: usize = 96 * 1024;
/// Slots of a partition.
pub const SLOTS: u8 = 2;
/// The largest head.
const MOST_HEAD: usize = 4 * 1024;

/// Where something changed, there is a new snapshot after this time.
const AT_LEAST: Duration = Duration::from_secs(30);
/// Or after so many messages, which are read again within a second or two, over all partitions.
const MESSAGES: u64 = 1_000;
/// But not before this time.
const AT_MOST: Duration = Duration::from_secs(4);
/// How many bytes a partition writes in a second, in the long run.
const RATE: u64 = 1 << 20;

numbered! {
    /// The fate of a snapshot. See [`Unusable`] for those that were not loaded.
    Outcome {
        /// It is kept.
        Written = "written",
        /// No server took it.
        NotWritten = "not_written",
        /// There is too much in it.
        TooLarge = "not_written_too_large",
        /// It was used.
        Loaded = "loaded",
    }
}

numbered! {
    /// Why the window is read as a whole instead.
    Unusable {
        /// There is no snapshot.
        Missing = "missing",
        /// The head or a piece cannot be read, or they do not belong together.
        Broken = "broken",
        /// It is of another release.
        Version = "version",
        /// It is larger than any may be.
        Large = "too_large",
        /// It is not of these streams and leases, or older than the window.
        Stale = "stale",
    }
}

/// A place in a stream. A stream that was made anew begins again with the number one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Position {
    /// When the stream was made, in nanoseconds since 1970.
    pub made: i64,
    /// The last number that was read.
    pub read: u64,
}

impl Position {
    /// Whether a stream that is at `now` is the same one, further on.
    fn is_before(self, now: Self) -> bool {
        self.made == now.made && self.read <= now.read
    }
}

/// How far the streams are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Read {
    /// Sightings.
    pub sightings: Position,
    /// Decisions.
    pub decisions: Position,
}

/// The record of which snapshot counts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Head {
    /// See [`FORM`].
    pub form: u32,
    /// The revision of the lease by which it was written.
    pub fence: u64,
    /// When, in milliseconds since 1970 by the server's clock.
    pub at: u64,
    /// Up to where it has what the streams say.
    pub read: Read,
    /// Where its pieces are.
    pub slot: u8,
    /// How many bytes it has.
    pub bytes: u64,
    /// The SHA-256 of them.
    pub sha256: String,
}

/// Only what must be readable in each form.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

impl Head {
    /// The head of a snapshot.
    pub fn new(bytes: &[u8], fence: u64, at: Duration, read: Read, slot: u8) -> Self {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        Self { form: FORM, fence, at, read, slot, bytes: bytes.len() as u64, sha256: hash(bytes) }
    }

    /// Reads a head.
    ///
    /// # Errors
    /// It is none, or of another form.
    pub fn parse(payload: &[u8]) -> Result<Self, Unusable> {
        if payload.len() > MOST_HEAD {
            return Err(Unusable::Broken);
        }
        let Form { form } = serde_json::from_slice(payload).map_err(|_| Unusable::Broken)?;
        if form != FORM {
            return Err(Unusable::Version);
        }
        let head: Self = serde_json::from_slice(payload).map_err(|_| Unusable::Broken)?;
        if head.slot >= SLOTS {
            return Err(Unusable::Broken);
        }
        Ok(head)
    }

    /// Whether who has the lease `fence`, with streams that are at `streams`, can go on from here.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, fence: u64, streams: Read, now: Duration, window: Duration) -> Result<(), Unusable> {
        if self.bytes > u64::from(MOST_BYTES) {
            return Err(Unusable::Large);
        }
        let is_of_these = self.fence <= fence
            && self.read.sightings.is_before(streams.sightings)
            && self.read.decisions.is_before(streams.decisions);
        let is_late = now.saturating_sub(Duration::from_millis(self.at)) >= window;
        if !is_of_these || is_late {
            return Err(Unusable::Stale);
        }
        Ok(())
    }

    /// In how many pieces it is.
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(PIECE as u64)).unwrap_or(u32::MAX)
    }

    /// Whether these are its bytes.
    ///
    /// # Errors
    /// They are not.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Unusable> {
        let is_it = bytes.len() as u64 == self.bytes && hash(bytes) == self.sha256;
        if is_it { Ok(()) } else { Err(Unusable::Broken) }
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// When the next snapshot is due.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When the last one was written, and its size.
    last: Option<(Duration, u64)>,
    messages: u64,
}

impl Pace {
    /// A snapshot was there, or is written now.
    pub fn wrote(&mut self, now: Duration, bytes: usize) {
        *self = Self { last: Some((now, bytes as u64)), messages: 0 };
    }

    /// A message came that no snapshot has.
    pub fn heard(&mut self) {
        self.messages += 1;
    }

    /// Whether one is due.
    pub fn is_due(&self, now: Duration) -> bool {
        let Some((at, bytes)) = self.last else { return self.messages > 0 };
        let passed = now.saturating_sub(at);
        let is_time = passed >= AT_LEAST || self.messages >= MESSAGES;
        self.messages > 0 && is_time && passed >= AT_MOST.max(Duration::from_secs(bytes / RATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn read(sightings: u64, decisions: u64) -> Read {
        let position = |read| Position { made: 7, read };
        Read { sightings: position(sightings), decisions: position(decisions) }
    }

    #[test]
    fn a_successor_goes_on_from_a_snapshot_of_the_same_streams_and_an_earlier_lease() {
        let head = Head::new(b"state", 5, at(0), read(10, 3), 1);
        let head = Head::parse(&serde_json::to_vec(&head).unwrap()).unwrap();
        assert_eq!((head.pieces(), head.verify(b"state")), (1, Ok(())));
        assert_eq!(head.verify(b"stat"), Err(Unusable::Broken));
        assert_eq!(head.verify(b"stete"), Err(Unusable::Broken));
        let check = |fence, streams, seconds| head.check(fence, streams, at(seconds), DAY);
        assert_eq!(check(5, read(10, 3), 1), Ok(()));
        assert_eq!(check(9, read(99, 9), 80_000), Ok(()));
        assert_eq!(check(4, read(10, 3), 1), Err(Unusable::Stale), "by a later lease");
        assert_eq!(check(9, read(9, 3), 1), Err(Unusable::Stale), "the stream is not that far");
        assert_eq!(check(9, read(10, 2), 1), Err(Unusable::Stale), "the decisions are not");
        assert_eq!(check(9, read(10, 3), 86_400), Err(Unusable::Stale), "older than the window");
        let mut other = read(10, 3);
        other.sightings.made = 8;
        assert_eq!(check(9, other, 1), Err(Unusable::Stale), "a stream that was made anew");
    }

    #[test]
    fn heads_of_other_forms_and_sizes_are_refused() {
        let head = Head::new(b"state", 5, at(0), read(10, 3), 1);
        let parse = |head: &Head| Head::parse(&serde_json::to_vec(head).unwrap());
        assert_eq!(parse(&Head { form: 2, ..head.clone() }), Err(Unusable::Version));
        assert_eq!(Head::parse(b"{\"form\":2,\"new\":1}"), Err(Unusable::Version));
        assert_eq!(parse(&Head { slot: SLOTS, ..head.clone() }), Err(Unusable::Broken));
        for wrong in [&b""[..], b"{", b"{\"form\":1}", b"\xff\xff", &[b' '; 5_000]] {
            assert_eq!(Head::parse(wrong), Err(Unusable::Broken));
        }
        let large = Head { bytes: u64::MAX, ..head };
        assert_eq!(large.check(9, read(10, 3), at(1), DAY), Err(Unusable::Large));
    }

    #[test]
    fn much_that_is_new_is_written_soon_and_little_later() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(at(0)), "there is nothing");
        pace.heard();
        assert!(pace.is_due(at(0)), "there was none");
        pace.wrote(at(0), 100);
        assert!(!pace.is_due(at(1_000)), "nothing changed");
        pace.heard();
        assert!(!pace.is_due(at(29)) && pace.is_due(at(30)));
        (0..MESSAGES).for_each(|_| pace.heard());
        assert!(!pace.is_due(at(3)) && pace.is_due(at(4)));
        pace.wrote(at(100), 20 << 20);
        (0..MESSAGES).for_each(|_| pace.heard());
        assert!(!pace.is_due(at(119)) && pace.is_due(at(120)), "large ones come more seldom");
    }
}
