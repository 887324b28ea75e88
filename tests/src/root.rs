//! Tests that need root: without it they are skipped by name, unless skipping is forbidden.

use libtest_mimic::{Failed, Trial};
use scanguard::privileges::effective_user;

/// Set in CI: a test that cannot run fails.
const NO_SKIP: &str = "SCANGUARD_NO_SKIP";

/// Whether this process is root.
pub fn is_root() -> bool {
    effective_user() == 0
}

/// For a test of what this kernel has not: it may be left out, unless skipping is forbidden.
///
/// # Errors
/// Skipping is forbidden.
pub fn skipped(missing: &str) -> anyhow::Result<()> {
    anyhow::ensure!(std::env::var_os(NO_SKIP).is_none(), "no {missing}, and skipping is forbidden here");
    println!("skipped: no {missing}");
    Ok(())
}

/// A test that needs root.
pub fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let skip = !is_root() && std::env::var_os(NO_SKIP).is_none();
    let test = move || {
        if is_root() { test() } else { Err("needs root, and skipping is forbidden here".into()) }
    };
    Trial::test(name, test).with_kind("root").with_ignored_flag(skip)
}
