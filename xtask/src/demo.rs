//! `cargo xtask demo`: a sensor, a scanner and what the one says about the other, in namespaces of their own.

use std::env;

use anyhow::{Result, bail};

use crate::{
    build::Profile,
    process::{self, quoted},
    setup::{self, Purpose},
    workspace::{Workspace, is_root},
};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the demo
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask demo`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the demo.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    run_as_root(ws, "demo", Purpose::Test, Profile::Dev, &args.args)
}

/// Builds the agent and a binary of the tests package, and becomes that binary.
///
/// # Errors
/// Without root, or when setup or the build fails.
pub(crate) fn run_as_root(
    ws: &Workspace,
    bin: &str,
    purpose: Purpose,
    profile: Profile,
    args: &[String],
) -> Result<()> {
    if !is_root() {
        let again = sudo_command(bin, args, |name| env::var(name).ok());
        bail!(
            "{bin} needs root: it makes network namespaces and loads a program into the kernel. \
             Run it as\n  {again}\n(what it builds below target/ then belongs to root)"
        );
    }
    setup::ensure(ws, purpose)?;
    // The agent's binary is no dependency of the tests package, so `cargo run` would not build it. Building
    // both at once gives them the features that they have in `cargo run`: nothing is compiled twice.
    let mut build = ws.cargo("build");
    build.args(["--package", "scanguard", "--package", "scanguard-tests", "--bins"]);
    process::run(build.args(["--profile", profile.name()]))?;
    let mut run = ws.cargo("run");
    run.args(["--package", "scanguard-tests", "--bin", bin, "--profile", profile.name(), "--"]).args(args);
    process::replace_this_process(&mut run)
}

/// The command to type. sudo resets `PATH`, where cargo is, and `HOME`, where rustup looks for the toolchains; the
/// homes of both are in the environment of whatever they start.
fn sudo_command(bin: &str, args: &[String], env: impl Fn(&str) -> Option<String>) -> String {
    let mut words = vec!["sudo env \"PATH=$PATH\"".to_owned()];
    for name in ["RUSTUP_HOME", "CARGO_HOME"] {
        words.extend(env(name).map(|value| quoted(&format!("{name}={value}"))));
    }
    words.push(format!("cargo xtask {bin}"));
    words.extend(args.iter().map(|arg| quoted(arg)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sudo_command_keeps_what_cargo_and_rustup_need() {
        let env = |name: &str| Some(format!("/home/me/{name}"));
        assert_eq!(
            sudo_command("demo", &["--fast".to_owned()], env),
            "sudo env \"PATH=$PATH\" RUSTUP_HOME=/home/me/RUSTUP_HOME CARGO_HOME=/home/me/CARGO_HOME \
             cargo xtask demo --fast"
        );
    }

    #[test]
    fn without_rustup_the_sudo_command_needs_the_path_alone() {
        assert_eq!(sudo_command("bench", &[], |_| None), "sudo env \"PATH=$PATH\" cargo xtask bench");
    }
}
