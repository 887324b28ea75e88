//! Asks the agent at its socket, and prints the answer.

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

/// Gives an order, and prints what was done.
pub(super) async fn order(at: &At, path: &str, body: &impl Serialize) -> Result<()> {
    let done: Done = read(&at.client().post(path, body).await?)?;
    say(done.said)?;
    for note in done.notes {
        say(format_args!("note: {note}"))?;
    }
    Ok(())
}

/// Asks, and prints the answer: as it came, or as `text` says it.
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

/// Reads an answer.
///
/// # Errors
/// It is of another version.
pub(crate) fn read<T: DeserializeOwned>(answer: &Bytes) -> Result<T> {
    serde_json::from_slice(answer).context("the agent's answer (is it of another version?)")
}
