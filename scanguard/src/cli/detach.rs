//! `scanguard detach`: detaches programs that an agent left attached, and removes its pins.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::exit::Exit;
use crate::{
    config::Config,
    network::Network,
    sensor::{
        egress::clsact,
        pins::{
            remove::{self, Removed},
            report,
        },
        settings::DEFAULT_PIN,
    },
    stdio::say,
};

/// Detaches and removes everything, and prints what it removed.
///
/// # Errors
/// An agent is running, or something could not be removed.
pub async fn run(pin: Option<PathBuf>) -> Result<Exit> {
    let path = pin.unwrap_or_else(configured);
    let removed = remove::detach(&path)?;
    // After the links: beside these, filters stay. Filters of other network namespaces can only be removed there.
    let present = Network::connect()?.interfaces().await?;
    let filters = clsact::sweep(&present, &BTreeSet::new(), &BTreeSet::new());
    for interface in &filters {
        say(format_args!("removed the egress filter at {interface}"))?;
    }
    if !removed.is_own_namespace && !removed.links.is_empty() {
        say(
            "these interfaces are in another network namespace: if there are egress filters, run this there",
        )?;
    }
    for line in lines(&path, &removed) {
        say(line)?;
    }
    Ok(if removed.left.is_empty() { Exit::Success } else { Exit::Failure })
}

/// A wrong configuration must not prevent detaching.
fn configured() -> PathBuf {
    match Config::find(None) {
        Ok((config, _)) => config.sensor.pin,
        Err(error) => {
            tracing::warn!("taking {DEFAULT_PIN}, since the configuration is wrong: {error}");
            DEFAULT_PIN.into()
        }
    }
}

fn lines(path: &Path, removed: &Removed) -> Vec<String> {
    if removed.is_nothing() {
        return vec![format!("{}: nothing is pinned", path.display())];
    }
    let links = removed
        .links
        .iter()
        .map(|(kind, index)| format!("detached {}", report::said(kind, *index, removed.is_own_namespace)));
    let layouts = removed.layouts.iter().map(|name| format!("removed the maps of {name}"));
    let left =
        removed.left.iter().map(|path| format!("left {}: nothing that ScanGuard pinned", path.display()));
    let mut lines: Vec<_> = links.chain(layouts).chain(left).collect();
    if removed.left.is_empty() {
        lines.push(format!("removed {}", path.display()));
    }
    lines
}
