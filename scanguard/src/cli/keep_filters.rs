//! `scanguard keep-filters`: the helper of an agent, see [`keeper`].

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use caps::Capability;

use crate::{
    sandbox::{Access, Sandbox},
    sensor::egress::keeper::{self, Arguments},
};

/// Gives up everything but the capability to change filters, and keeps them until the agent is gone.
///
/// # Errors
/// It cannot be confined, or cannot ask the kernel.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let capabilities = [Capability::CAP_NET_ADMIN].into_iter().collect();
    // The sandbox looks there whether it has all threads.
    let read = [PathBuf::from("/proc")].into();
    Sandbox::enter(Access { read, capabilities, ..Access::default() }).await?;
    // It is all that this process does.
    keeper::run(arguments).context("keeping filters")
}
