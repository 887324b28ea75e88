//! `cargo xtask package`: the Debian package, with manual pages and completions.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    build::Profile,
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `package`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package a build for debugging instead of one for release
    #[arg(long)]
    debug: bool,
    /// Build for this target, such as x86_64-unknown-linux-musl: linked statically, it runs anywhere
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
}

/// Runs `cargo xtask package`.
///
/// # Errors
/// When setup, the build or the packaging fails.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    let is_static = args.target.as_deref().is_some_and(|target| target.ends_with("-musl"));
    setup::ensure(ws, if is_static { Purpose::Static } else { Purpose::Package })?;
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    if let Some(target) = &args.target {
        process::run(ws.command("rustup").args(["target", "add", target]))?;
    }
    let build = ["--package", "scanguard", "--profile", profile.name()];
    process::run(ws.cargo("build").args(build).args(target_options(args.target.as_deref())))?;
    let deb = package(ws, profile, args.target.as_deref())?;
    println!("packaged {}", ws.display(&deb));
    Ok(())
}

/// Packages what has been built, and says where.
///
/// # Errors
/// When the packaging fails.
pub(crate) fn package(ws: &Workspace, profile: Profile, target: Option<&str>) -> Result<PathBuf> {
    let mut built = ws.target();
    built.extend(target);
    built.push(profile.directory());
    let packages = ws.target().join("package");
    process::run(Command::new(built.join("scanguard")).arg("manual").arg(&packages))?;

    let directory = packages.join(target.unwrap_or_default()).join(profile.directory());
    // Of an older version, so that there is one file afterwards.
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| ws.display(&directory))?;
    }
    fs::create_dir_all(&directory).with_context(|| ws.display(&directory))?;
    let mut deb = ws.cargo("deb");
    deb.args(["--package", "scanguard", "--profile", profile.name(), "--no-build", "--strip"]);
    // It warns of manual pages that cargo does not build, and of builds for debugging, which are tested, not shipped.
    deb.arg("--quiet");
    match profile {
        Profile::Dev => deb.arg("--fast"),
        // Its own compressor takes minutes for what xz(1) does in seconds.
        Profile::Release => deb.arg("--compress-system"),
    };
    process::run(deb.args(target_options(target)).arg("--output").arg(&directory))?;
    the_package_in(&directory)
}

fn target_options(target: Option<&str>) -> impl Iterator<Item = &str> {
    target.into_iter().flat_map(|target| ["--target", target])
}

fn the_package_in(directory: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = files.filter(|path| path.extension() == Some(OsStr::new("deb")));
    packages.next().with_context(|| format!("no package in {}", directory.display()))
}
