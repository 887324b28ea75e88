//! `cargo xtask bench`: what a packet costs.

use anyhow::Result;

use crate::{build::Profile, demo, setup::Purpose, workspace::Workspace};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask bench`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the benchmark.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    demo::run_as_root(ws, "bench", Purpose::Test, Profile::Release, &args.args)
}
