//! `cargo xtask adversary`: attacks on the sensor and on those whom it serves.

use anyhow::Result;

use crate::{build::Profile, demo, setup::Purpose, workspace::Workspace};

/// Arguments of `adversary`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the suite: a part of rows' names, or options such as --write and --slow
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask adversary`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the suite.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    demo::run_as_root(ws, "adversary", Purpose::Test, Profile::Dev, &args.args)
}
