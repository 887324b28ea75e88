//! Sends a request to the agent's socket, and prints the answer.

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::At;
use crate::{
    control::server::ModeBody,
    respond::{Mode, report::Done},
    stdio::say,
};

/// Sets the mode.
pub(super) async fn mode(at: &At, mode: Mode, confirm_seconds: Option<f64>) -> Result<()> {
    order(at, "/v1/mode", &ModeBody { mode, confirm_seconds }).await
}

/// Sends an order, and prints the result.
pub(super) async fn order(at: &At, path: &str, body: &impl Serialize) -> Result<()> {
    let done: Done = read(&at.client().post(path, body).await?)?;
    say(done.said)?;
    for note in done.notes {
        say(format_args!("note: {note}"))?;
    }
    Ok(())
}

/// Sends a question, and prints the answer: as JSON, or as the text that `text` makes of it.
pub(super) async fn ask<T: DeserializeOwned>(
    at: &At,
    path: &str,
    json: bool,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    let answer = at.client().get(path).await?;
    if json {
        say(String::from_utf8_lossy(&answer))?;
    } else {
        say(text(&read(&answer)?).trim_end())?;
    }
    Ok(())
}

/// Parses an answer.
///
/// # Errors
/// It comes from another version.
pub(crate) fn read<T: DeserializeOwned>(answer: &Bytes) -> Result<T> {
    serde_json::from_slice(answer).context("the agent's answer (is it of another version?)")
}
