//! `cargo xtask fleet`: thousands of members that are played, a real server and the real role, and what all that costs.

use anyhow::Result;

use crate::{build::Profile, demo, setup::Purpose, workspace::Workspace};

/// Arguments of `fleet`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the simulation: --hosts N (1000; may be given several times), --write for docs/fleet-performance.md
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask fleet`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the simulation.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    demo::run_as_root(ws, "fleet", Purpose::Test, Profile::Release, &args.args)
}
