//! Writes the state file in parallel to the agent's work, since a slow disk must not delay a ban.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    responder::Responder,
    state::{self, Loaded, State},
};
use crate::{
    clock::Now,
    respond::metrics::{ResponseMetrics, StateError},
    whole_file,
};

/// How long a write may take before it is logged, and how long the agent's end waits for one.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state file.
pub struct StateWriter {
    path: PathBuf,
    writing: Option<Writing>,
    /// Why the last write failed, or why the current one is not done.
    error: Option<String>,
    /// The existing file could neither be read nor moved aside, so it is not overwritten.
    blocked: bool,
    metrics: Arc<ResponseMetrics>,
}

/// A write that is under way.
struct Writing {
    task: JoinHandle<io::Result<()>>,
    /// The start of the write.
    since: Now,
}

impl StateWriter {
    /// Reads the file. Faults are reported, but the agent starts all the same.
    pub fn open(path: PathBuf, metrics: Arc<ResponseMetrics>, now: Now) -> (Self, Option<State>) {
        let name = path.display();
        let mut blocked = false;
        let state = match state::load(&path, now.wall) {
            Loaded::State(state) => {
                tracing::info!("{name}: {} bans, written {}", state.bans.len(), state.saved);
                Some(*state)
            }
            Loaded::Nothing => {
                tracing::info!("{name}: the file does not exist yet, no bans are restored");
                None
            }
            Loaded::Corrupt { why, moved } => {
                metrics.state_failed(StateError::Corrupt);
                match moved {
                    Some(moved) => tracing::error!(
                        "{name} is corrupt ({why}): moved aside to {}; no bans are restored",
                        moved.display()
                    ),
                    None => tracing::error!(
                        "{name} is corrupt ({why}) and could not be moved aside: it will be overwritten; no bans are restored"
                    ),
                }
                None
            }
            Loaded::Unreadable { error, moved } => {
                metrics.state_failed(StateError::Read);
                match moved {
                    Ok(moved) => tracing::error!(
                        "{name} could not be read ({error}): moved aside to {}; no bans are restored",
                        moved.display()
                    ),
                    Err(why) => {
                        blocked = true;
                        tracing::error!(
                            "{name} could not be read ({error}), nor moved aside ({why}), which is tried again: until then \
                             nothing is written; no bans are restored"
                        );
                    }
                }
                None
            }
        };
        (Self { path, writing: None, error: None, blocked, metrics }, state)
    }

    /// Why the last write of the file failed.
    pub fn error(&self) -> Option<String> {
        self.error.clone()
    }

    /// Writes changes, unless a write is under way: then the next call writes them.
    pub async fn keep(&mut self, responder: &mut Responder, now: Now) {
        if let Some(Writing { since, .. }) =
            self.writing.as_ref().filter(|writing| !writing.task.is_finished())
        {
            if now.at.saturating_sub(since.at) >= PATIENCE {
                let began = since.wall.strftime("%FT%TZ");
                // Logged once per write, however often this is checked.
                if self.failed(format!("the disk has not answered since {began}")) {
                    self.metrics.state_failed(StateError::Write);
                }
            }
            return;
        }
        self.finish_writing(responder).await;
        self.write(responder, now);
    }

    /// Writes the file and waits for that, but only for a limited time: the programs have to be detached.
    pub async fn close(mut self, responder: &mut Responder, now: Now) {
        let path = self.path.clone();
        let written = async {
            self.finish_writing(responder).await;
            responder.keep_shields();
            // Even if nothing changed: it says when the agent ended, and a write that failed before may succeed now.
            responder.stay_dirty();
            self.write(responder, now);
            self.finish_writing(responder).await;
        };
        if timeout(PATIENCE, written).await.is_err() {
            tracing::error!(
                "{}: the disk does not answer, and the agent does not wait for it: the latest bans and their ends \
                 may be lost",
                path.display()
            );
        }
    }

    fn write(&mut self, responder: &mut Responder, now: Now) {
        if responder.take_dirty() {
            let (path, state) = (self.path.clone(), responder.state(now));
            let blocked = self.blocked;
            let task = spawn_blocking(move || {
                if blocked {
                    free(&path, now.wall)?;
                }
                state::save(&path, &state)
            });
            self.writing = Some(Writing { task, since: now });
        }
    }

    async fn finish_writing(&mut self, responder: &mut Responder) {
        let Some(Writing { task, .. }) = self.writing.take() else {
            return;
        };
        match task.await.map_err(io::Error::other).flatten() {
            Ok(()) => {
                self.blocked = false;
                if self.error.take().is_some() {
                    tracing::info!("{} is written again", self.path.display());
                }
            }
            Err(error) => {
                responder.stay_dirty();
                self.metrics.state_failed(StateError::Write);
                self.failed(error.to_string());
            }
        }
    }

    /// Logs an error, unless the same was logged just before. Returns whether it was logged.
    fn failed(&mut self, said: String) -> bool {
        let is_new = self.error.as_ref() != Some(&said);
        if is_new {
            tracing::warn!("{} could not be written: {said}; trying again", self.path.display());
        }
        self.error = Some(said);
        is_new
    }
}

/// Moves a file aside that could not be read.
fn free(path: &Path, now: Timestamp) -> io::Result<()> {
    match whole_file::move_aside(path, state::UNREADABLE, now) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("the existing file could be neither read nor moved aside: {error}")))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
