//! `cargo xtask matrix`: what is found and what is left alone, by real tools.

use anyhow::Result;

use crate::{build::Profile, demo, setup::Purpose, workspace::Workspace};

/// Arguments of `matrix`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the matrix: a part of cases' names, or options such as --write and --slow
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask matrix`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the matrix.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    demo::run_as_root(ws, "matrix", Purpose::Matrix, Profile::Dev, &args.args)
}
