//! Writes the state file beside the agent's work: a slow disk must not delay a ban.

use std::{io, path::PathBuf, sync::Arc};

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
    metrics: Arc<ResponseMetrics>,
}

impl Keeper {
    /// Reads the file. Whatever is wrong with it is reported, and no reason not to start.
    pub fn open(path: PathBuf, metrics: Arc<ResponseMetrics>, now: Now) -> (Self, Option<State>) {
        let name = path.display();
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
            Loaded::Unreadable(error) => {
                metrics.state_failed(StateError::Read);
                tracing::error!("{name} could not be read: {error}; no bans are restored");
                None
            }
        };
        (Self { path, writing: None, error: None, metrics }, state)
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
            let (path, state) = (self.path.clone(), responder.state(now));
            self.writing = Some(spawn_blocking(move || state::save(&path, &state)));
        }
    }

    /// Writes what is left, and waits for it.
    pub async fn close(mut self, responder: &mut Responder, now: Now) {
        self.finish_writing(responder).await;
        // Once more even if nothing changed: a write that failed may succeed by now.
        if responder.take_dirty() {
            let (path, state) = (self.path.clone(), responder.state(now));
            self.writing = Some(spawn_blocking(move || state::save(&path, &state)));
            self.finish_writing(responder).await;
        }
    }

    async fn finish_writing(&mut self, responder: &mut Responder) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        match writing.await.map_err(io::Error::other).flatten() {
            Ok(()) => {
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
