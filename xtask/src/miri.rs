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
    // proptest looks where failures of earlier runs lie, and an interpreter has no time for hundreds of cases.
    test.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "8");
    process::run(&mut test)
}
