//! `cargo xtask miri`: the tests of the code that kernel and agent share, interpreted. Miri sees undefined behaviour that runs
//! unnoticed otherwise: this code reads headers through pointers.

use anyhow::Result;

use crate::{
    process,
    setup::{self, NIGHTLY, Purpose},
    workspace::Workspace,
};

/// Runs `cargo xtask miri`.
///
/// # Errors
/// When setup fails, or a test does.
pub(crate) fn command(ws: &Workspace) -> Result<()> {
    setup::ensure(ws, Purpose::Miri)?;
    let mut test = ws.cargo("miri");
    test.args(["test", "--package", "scanguard-common", "--target-dir"]).arg(ws.target().join("miri"));
    test.env("RUSTUP_TOOLCHAIN", NIGHTLY);
    process::run(&mut test)
}
