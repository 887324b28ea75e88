//! `cargo xtask check`: all that can be said about the code without running it.

use std::{env, process::Command};

use anyhow::{Error, Result};

use crate::{
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail where the database of security advisories cannot be had; else it is asked wherever it can
    #[arg(long)]
    advisories: bool,
    /// Also lint the Containerfile and the Kubernetes manifests; the linters come from PyPI
    #[arg(long)]
    deploy: bool,
}

/// Runs `cargo xtask check`: every step, also after one has failed.
///
/// # Errors
/// When setup fails, or with the first step that failed.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, if args.deploy { Purpose::Deploy } else { Purpose::Check })?;
    let mut steps = vec![
        ("format", format(ws)),
        ("lints", lints(ws)),
        ("lints of the eBPF program", ebpf_lints(ws, Build::Xdp)),
        ("lints of the eBPF program for tc", ebpf_lints(ws, Build::Tc)),
        ("lints of the eBPF program for older kernels", ebpf_lints(ws, Build::Old)),
        ("documentation", documentation(ws)),
        ("dependencies", dependencies(ws)),
    ];
    let database = advisories_database(ws);
    let has_advisories = database.is_ok() || args.advisories;
    if has_advisories {
        steps.push(("advisories", advisories(ws)));
    }
    if args.deploy {
        steps.push(("Containerfile", containerfile(ws)));
        steps.push(("Kubernetes manifests", manifests(ws)));
    }
    let count = steps.len();
    let mut failed: Vec<(&str, Error)> = Vec::new();
    for (number, (name, mut command)) in (1..).zip(steps) {
        println!("\n== {number}/{count} {name}");
        failed.extend(process::run(&mut command).err().map(|error| (name, error)));
    }
    println!();
    if let Err(reason) = database {
        // Without it a release is not known to be free of what others have found.
        println!("advisories: {}: {reason}", if has_advisories { "asked for" } else { "NOT checked" });
    }
    if failed.is_empty() {
        println!("check: all {count} steps passed");
        return Ok(());
    }
    println!("check: {} of {count} steps failed", failed.len());
    for (name, error) in &failed {
        println!("  {name}: {error:#}");
    }
    let (name, first) = failed.swap_remove(0);
    Err(first.context(format!("check failed, first in step \"{name}\"")))
}

fn format(ws: &Workspace) -> Command {
    let mut command = ws.cargo("fmt");
    command.args(["--all", "--check"]);
    command
}

fn lints(ws: &Workspace) -> Command {
    let mut command = ws.cargo("clippy");
    command.args(["--all-targets", "--keep-going", "--", "-D", "warnings"]);
    command
}

/// The builds of the eBPF program.
#[derive(Clone, Copy)]
enum Build {
    Xdp,
    Tc,
    Old,
}

/// The eBPF program is no default member: it is code for another machine, and sees other libraries.
fn ebpf_lints(ws: &Workspace, build: Build) -> Command {
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let mut command = ws.cargo("clippy");
    command.args(["--package", "scanguard-ebpf", "--release", "--target", target, "-Z", "build-std=core"]);
    match build {
        Build::Xdp => {}
        Build::Tc => _ = command.args(["--features", "tc"]),
        Build::Old => _ = command.args(["--features", "old"]),
    }
    // Other flags than the main build's in the same directory would make each throw away the other's work.
    command.arg("--target-dir").arg(ws.target().join("clippy-ebpf"));
    command.args(["--", "-D", "warnings"]);
    // As aya-build does it: build-std is unstable, and the program's types depend on the machine's registers.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH));
    command
}

fn documentation(ws: &Workspace) -> Command {
    let mut command = ws.cargo("doc");
    command.args(["--no-deps", "--keep-going"]).env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn dependencies(ws: &Workspace) -> Command {
    let mut command = ws.command("cargo-deny");
    command.args(["check", "bans", "licenses", "sources"]);
    command
}

/// Fetches the database of security advisories.
///
/// # Errors
/// It cannot be had from here; the last words of who tried.
fn advisories_database(ws: &Workspace) -> Result<(), String> {
    let mut command = ws.command("cargo-deny");
    let output = command.args(["fetch", "db"]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(last.unwrap_or("the database of advisories cannot be had").to_owned())
}

fn advisories(ws: &Workspace) -> Command {
    let mut command = ws.command("cargo-deny");
    command.args(["check", "advisories"]);
    command
}

fn containerfile(ws: &Workspace) -> Command {
    let mut command = ws.command("hadolint");
    command.arg("deploy/container/Containerfile");
    command
}

/// Against the newest version of Kubernetes that the linter knows; unknown fields are errors.
fn manifests(ws: &Workspace) -> Command {
    let mut command = ws.command("kubernetes-validate");
    command.args(["--strict", "deploy/kubernetes/daemonset.yaml"]);
    command
}
