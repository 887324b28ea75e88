//! `cargo xtask build`: the agent, with its eBPF program inside.

use anyhow::Result;

use crate::{
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build for debugging instead of for release
    #[arg(long)]
    debug: bool,
}

/// Cargo's two profiles.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build, with checks.
    Dev,
    /// Quick to run; what is shipped and measured.
    Release,
}

impl Profile {
    /// The name that cargo knows it by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// Where its results lie below the target directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Runs `cargo xtask build`.
///
/// # Errors
/// When setup or the build fails.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Purpose::Build)?;
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    process::run(ws.cargo("build").args(["--package", "scanguard", "--profile", profile.name()]))?;
    let binary = ws.target().join(profile.directory()).join("scanguard");
    println!("built {}", ws.display(&binary));
    Ok(())
}
