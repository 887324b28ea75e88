//! apt with sources and lists of its own: those of the system are left alone.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{process, workspace::Workspace};

/// Makes a directory for [`within`].
///
/// # Errors
/// It cannot be made.
pub(crate) fn prepare(directory: &Path) -> Result<()> {
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(directory.join(part)).with_context(|| directory.display().to_string())?;
    }
    Ok(())
}

/// A program of apt that reads `sources.list` in a directory, and keeps its lists and packages there. `more`: options beyond
/// those.
pub(crate) fn within(ws: &Workspace, program: &str, directory: &Path, more: &[(&str, &str)]) -> Command {
    let mut command = ws.command(program);
    let at = |part: &str| directory.join(part).display().to_string();
    let (sources, lists, cache) = (at("sources.list"), at("lists"), at("cache"));
    let own = [
        ("Dir::Etc::SourceList", sources.as_str()),
        ("Dir::Etc::SourceParts", "/dev/null"),
        ("Dir::State::Lists", &lists),
        ("Dir::Cache", &cache),
        // The lists are this user's own, and apt fetches them as this user.
        ("APT::Sandbox::User", ""),
        ("Acquire::Languages", "none"),
    ];
    for (option, value) in own.iter().chain(more) {
        command.args(["-o", &format!("{option}={value}")]);
    }
    command
}

/// The lists of packages that this machine has, a line for each in this format of apt's.
///
/// # Errors
/// apt does not say.
pub(crate) fn lists(ws: &Workspace, format: &str) -> Result<String> {
    let mut ask = ws.command("apt-get");
    process::answer(ask.args(["indextargets", "--format", format, "Created-By: Packages"]))
        .context("apt-get does not say where this machine's packages come from")
}
