//! Writes the state file beside the agent's work: a slow disk must not delay a ban.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    responder::Responder,
    state::{self, Loaded, State},
};
use crate::{
    clock::Now,
    export::response::{ResponseMetrics, StateError},
};

/// The state file.
pub struct Keeper {
    path: PathBuf,
    /// A write that is under way.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// Why the last one failed.
    error: Option<String>,
    /// What is there could not be read, nor moved aside: it is not overwritten.
    blocked: bool,
    metrics: Arc<ResponseMetrics>,
}

impl Keeper {
    /// Reads the file. Whatever is wrong with it is reported, and no reason not to start.
    pub fn open(path: PathBuf, metrics: Arc<ResponseMetrics>, now: Now) -> (Self, Option<State>) {
        let name = path.display();
        let mut blocked = false;
        let state = match state::load(&path, now.wall) {
            Loaded::State(state) => {
                tracing::info!("{name}: {} bans, written {}", state.bans.len(), state.saved);
                Some(*state)
            }
            Loaded::Nothing => {
                tracing::info!("{name}: there is none yet, no bans are restored");
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

    /// Why the file could not be written last.
    pub fn error(&self) -> Option<String> {
        self.error.clone()
    }

    /// Writes what has changed, unless a write is under way: then the next call does.
    pub async fn keep(&mut self, responder: &mut Responder, now: Now) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.finish_writing(responder).await;
        if responder.take_dirty() {
            self.write(responder, now);
        }
    }

    fn write(&mut self, responder: &Responder, now: Now) {
        let (path, state) = (self.path.clone(), responder.state(now));
        let blocked = self.blocked;
        self.writing = Some(spawn_blocking(move || {
            if blocked {
                free(&path, now.wall)?;
            }
            state::save(&path, &state)
        }));
    }

    /// Writes what is left, and waits for it.
    pub async fn close(mut self, responder: &mut Responder, now: Now) {
        self.finish_writing(responder).await;
        // Once more even if nothing changed: a write that failed may succeed by now.
        if responder.take_dirty() {
            self.write(responder, now);
            self.finish_writing(responder).await;
        }
    }

    async fn finish_writing(&mut self, responder: &mut Responder) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        match writing.await.map_err(io::Error::other).flatten() {
            Ok(()) => {
                self.blocked = false;
                if self.error.take().is_some() {
                    tracing::info!("{} is written again", self.path.display());
                }
            }
            Err(error) => {
                responder.stay_dirty();
                self.metrics.state_failed(StateError::Write);
                let said = error.to_string();
                if self.error.as_ref() != Some(&said) {
                    tracing::warn!("{} could not be written: {said}; trying on", self.path.display());
                }
                self.error = Some(said);
            }
        }
    }
}

/// Makes place where a file is that could not be read.
fn free(path: &Path, now: Timestamp) -> io::Result<()> {
    match state::move_aside(path, state::UNREADABLE, now) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("what is there could not be read, nor moved aside: {error}")))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
