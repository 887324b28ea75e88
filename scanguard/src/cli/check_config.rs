//! `scanguard check-config`: whether the agent would start with a file, and warnings about it on this host.

use std::path::Path;

use anyhow::Result;

use crate::{
    config::{Config, host},
    control::socket,
    stdio::{complain, say},
};

/// Prints all errors and warnings.
///
/// # Errors
/// The agent would not start.
pub fn run(file: &Path) -> Result<()> {
    let config = Config::load(file)?;
    socket::group(&config.control)?;
    for lack in host::lacks(&config) {
        complain(format_args!("scanguard: warning: {lack}"));
    }
    Ok(say(format_args!("{}: ok", file.display()))?)
}
