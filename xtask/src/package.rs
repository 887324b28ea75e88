//! `cargo xtask package`: packages for Debian's and Red Hat's kin, with manual pages and completions.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build::Profile, process, reproducible, sbom, setup, target::Target, workspace::Workspace};

/// Arguments of `package`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package a build for debugging instead of one for release
    #[arg(long)]
    debug: bool,
    /// Build for this target: aarch64-unknown-linux-gnu for arm64; x86_64-unknown-linux-musl or
    /// aarch64-unknown-linux-musl for a binary that is linked statically and runs anywhere
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Build the commit that is checked out twice, in two folders, and compare every byte
    #[arg(long)]
    verify_reproducible: bool,
}

/// Runs `cargo xtask package`.
///
/// # Errors
/// When setup, the build or the packaging fails.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    let target = Target::new(args.target.as_deref());
    setup::ensure(ws, target.purpose())?;
    if args.verify_reproducible {
        let debug = args.debug.then_some("--debug");
        return reproducible::verify(ws, &debug.into_iter().chain(target.options()).collect::<Vec<_>>());
    }
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    target.install(ws)?;
    let mut build = ws.cargo("build");
    build.args(["--package", "scanguard", "--profile", profile.name()]).args(target.options());
    target.configure(&mut build);
    if let Profile::Release = profile {
        build.env("CARGO_ENCODED_RUSTFLAGS", remapped(ws).join("\x1f"));
    }
    process::run(&mut build)?;
    for made in package(ws, profile, target)? {
        println!("packaged {}", ws.display(&made));
    }
    println!("the binary: {}", ws.display(&built(ws, profile, target).join("scanguard")));
    Ok(())
}

/// Flags of the compiler by which a release has no path of this machine: of this work tree, and of its dependencies.
fn remapped(ws: &Workspace) -> Vec<String> {
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let cargo = cargo.map(|path| (path, "/cargo"));
    let places = [(ws.root().to_owned(), "/scanguard")].into_iter().chain(cargo);
    places.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).collect()
}

/// The time that files of a package have: that of the commit, unless the environment says another.
fn epoch(ws: &Workspace) -> Option<String> {
    env::var("SOURCE_DATE_EPOCH").ok().or_else(|| {
        let said = process::answer(ws.command("git").args(["log", "-1", "--format=%ct"]))?;
        Some(said.trim().to_owned())
    })
}

/// Where the build is.
fn built(ws: &Workspace, profile: Profile, target: Target<'_>) -> PathBuf {
    ws.target().join(target.directory()).join(profile.directory())
}

/// Makes both packages of what has been built, and says where.
fn package(ws: &Workspace, profile: Profile, target: Target<'_>) -> Result<[PathBuf; 2]> {
    let deb = debian(ws, profile, target)?;
    let directory = deb.parent().context("a directory")?;
    let time = epoch(ws).map(|epoch| ("SOURCE_DATE_EPOCH", epoch));
    process::run(rpm(ws, profile, target, directory)?.envs(time))?;
    let rpm = the_package_in(directory, "rpm")?;
    Ok([deb, rpm])
}

/// Makes Debian's package of what has been built, and says where. Packages of before are removed.
///
/// # Errors
/// When the packaging fails.
pub(crate) fn debian(ws: &Workspace, profile: Profile, target: Target<'_>) -> Result<PathBuf> {
    let packages = ws.target().join("package");
    manual(ws, profile, target, &packages)?;
    let epoch = epoch(ws);
    sbom::write(ws, target, epoch.as_deref(), &packages.join("sbom"))?;

    let directory = packages.join(target.directory()).join(profile.directory());
    // Of an older version, so that there is one file afterwards.
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| ws.display(&directory))?;
    }
    fs::create_dir_all(&directory).with_context(|| ws.display(&directory))?;
    let time = epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch));
    process::run(deb(ws, profile, target, &directory).envs(time))?;
    the_package_in(&directory, "deb")
}

/// Writes the manual pages and completions: the agent does, by its own command line.
fn manual(ws: &Workspace, profile: Profile, target: Target<'_>, packages: &Path) -> Result<()> {
    let mut build = built(ws, profile, target);
    if target.is_foreign() {
        // It says the same wherever it runs.
        process::run(ws.cargo("build").args(["--package", "scanguard"]))?;
        build = built(ws, Profile::Dev, Target::HOST);
    }
    process::run(ws.command(build.join("scanguard")).arg("manual").arg(packages))
}

fn deb(ws: &Workspace, profile: Profile, target: Target<'_>, directory: &Path) -> Command {
    let mut deb = ws.cargo("deb");
    deb.args(["--package", "scanguard", "--profile", profile.name(), "--no-build", "--strip"]);
    // It warns of manual pages that cargo does not build, and of builds for debugging, which are tested, not shipped.
    deb.arg("--quiet");
    match profile {
        Profile::Dev => deb.arg("--fast"),
        // Its own compressor takes minutes for what xz(1) does in seconds.
        Profile::Release => deb.arg("--compress-system"),
    };
    deb.args(target.options()).arg("--output").arg(directory);
    deb
}

fn rpm(ws: &Workspace, profile: Profile, target: Target<'_>, directory: &Path) -> Result<Command> {
    // It strips nothing, and finds the binary below the directory that it is told.
    let stripped = ws.target().join("package/stripped");
    let to = stripped.join(target.directory()).join(profile.directory());
    fs::create_dir_all(&to).with_context(|| ws.display(&to))?;
    let from = built(ws, profile, target).join("scanguard");
    process::run(ws.command(target.tool("strip")).arg("-o").args([&to.join("scanguard"), &from]))?;
    let mut rpm = ws.cargo("generate-rpm");
    rpm.args(["--package", "scanguard", "--profile", profile.name(), "--target-dir"]).arg(&stripped);
    rpm.args(target.options());
    // rpm's own program reads files of any processor; for this one, it would else ask the dynamic linker.
    if Path::new(FIND_REQUIRES).exists() {
        rpm.args(["--auto-req", "find-requires"]);
    }
    if matches!(profile, Profile::Dev) {
        rpm.args(["--payload-compress", "none"]);
    }
    rpm.arg("--output").arg(directory);
    Ok(rpm)
}

/// rpm's program that finds which libraries a file needs.
const FIND_REQUIRES: &str = "/usr/lib/rpm/find-requires";

fn the_package_in(directory: &Path, kind: &str) -> Result<PathBuf> {
    let files = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = files.filter(|path| path.extension() == Some(OsStr::new(kind)));
    packages.next().with_context(|| format!("no {kind} in {}", directory.display()))
}
