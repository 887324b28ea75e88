//! `cargo xtask soak`: half an hour of mixed traffic, and what is left of memory, descriptors and exact counts after it.

use anyhow::Result;

use crate::{build::Profile, demo, setup::Purpose, workspace::Workspace};

/// Arguments of `soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the soak: --minutes N (30), --reloads N (10,000), --write for docs/soak.md
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask soak`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the soak, which fails if anything was lost.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    demo::run_as_root(ws, "soak", Purpose::Test, Profile::Dev, &args.args)
}
