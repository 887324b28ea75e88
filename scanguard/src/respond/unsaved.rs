//! Decides when the state file has to be written. Pure: time is passed in.

use std::time::Duration;

/// How often the state file is written for shields alone: forged addresses cause ever new shields, and lost shields are
/// made again.
const SHIELDS_INTERVAL: Duration = Duration::from_secs(30);

/// The changes that the state file does not have yet.
#[derive(Debug)]
pub(super) struct Unsaved {
    /// The file has to be written now.
    due: bool,
    /// Shields were made since the file was last written for them, and the next write is not yet due.
    shields: bool,
    /// The time of that write.
    shields_saved: Duration,
}

impl Unsaved {
    /// At the start, the file has to be written.
    pub(super) fn new(at: Duration) -> Self {
        Self { due: true, shields: false, shields_saved: at }
    }

    /// Something other than a shield changed, or the last write failed.
    pub(super) fn changed(&mut self) {
        self.due = true;
    }

    /// Only shields changed.
    pub(super) fn shields_changed(&mut self) {
        self.shields = true;
    }

    /// Makes a write for changed shields due if the last one was long enough ago.
    pub(super) fn tick(&mut self, at: Duration) {
        if self.shields && at.saturating_sub(self.shields_saved) >= SHIELDS_INTERVAL {
            *self = Self { due: true, shields: false, shields_saved: at };
        }
    }

    /// Makes a write for changed shields due at once.
    pub(super) fn include_shields(&mut self) {
        self.due |= std::mem::take(&mut self.shields);
    }

    /// Whether the file has to be written. The call resets this.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }
}
