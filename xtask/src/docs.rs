//! `cargo xtask docs`: compares what is generated from the code with the tree, or writes it.

use anyhow::Result;

use crate::{
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `docs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the pages rather than compare them
    #[arg(long)]
    write: bool,
}

/// Runs `cargo xtask docs`.
///
/// # Errors
/// When setup or the build fails, or a page is not what the code says.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Purpose::Test)?;
    let mut test = ws.cargo("test");
    if args.write {
        test.env("SCANGUARD_WRITE_DOCS", "1");
    }
    process::run(test.args(["--package", "scanguard-tests", "--test", "docs"]))
}
