//! `cargo xtask fuzz`: parsers of outside data against libFuzzer, the kernel program against the host.

use std::{fs, num::NonZeroU64};

use anyhow::{Context, Result, bail};

use crate::{
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A target of fuzz/targets, or `differential`; all targets, one after the other, if none is named
    target: Option<String>,
    /// How long each target is fuzzed
    #[arg(long, default_value = "60")]
    seconds: NonZeroU64,
    /// For `differential`: how many packets kernel and host are compared on (needs root)
    #[arg(long, default_value = "1000000")]
    packets: NonZeroU64,
    /// For `differential`: what the packets are made from, to see a failure again
    #[arg(long, default_value = "1")]
    seed: u64,
}

/// The target that is no target of libFuzzer.
const DIFFERENTIAL: &str = "differential";

/// Runs `cargo xtask fuzz`.
///
/// # Errors
/// When setup or the build fails, there is no such target, or a target found something: its input is then below
/// `fuzz/artifacts`.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    if args.target.as_deref() == Some(DIFFERENTIAL) {
        return differential(ws, args);
    }
    let all = targets(ws)?;
    let chosen = match &args.target {
        None => all,
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no target {name:?}; there are {DIFFERENTIAL}, {}", all.join(", ")),
    };
    setup::ensure(ws, Purpose::Fuzz)?;
    // The same versions as in the agent; cargo adds what only the fuzzers need.
    let lock = ws.fuzz().join("Cargo.lock");
    fs::copy(ws.lock(), &lock).with_context(|| format!("cannot write {}", lock.display()))?;
    chosen.iter().try_for_each(|target| fuzz(ws, target, args.seconds))
}

/// The names of all targets.
fn targets(ws: &Workspace) -> Result<Vec<String>> {
    let directory = ws.fuzz().join("targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn fuzz(ws: &Workspace, target: &str, seconds: NonZeroU64) -> Result<()> {
    // Findings of libFuzzer go to the first of the corpora; the committed one is only read.
    let found = ws.target().join("fuzz-corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let mut run = ws.cargo("fuzz");
    run.args(["run", "--fuzz-dir"]).arg(ws.fuzz());
    run.arg("--target-dir").arg(ws.target().join("fuzz"));
    run.arg(target).arg(&found).arg(ws.fuzz().join("corpus").join(target));
    run.args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]);
    // Sanitizers are unstable options, but not of another compiler than the pinned one.
    run.env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut run)
}

fn differential(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Purpose::Build)?;
    let mut test = ws.cargo("test");
    test.args(["--package", "scanguard-tests", "--test", "progrun", "--", "random and mutated packets"]);
    test.env("SCANGUARD_DIFFERENTIAL_PACKETS", args.packets.to_string());
    test.env("SCANGUARD_DIFFERENTIAL_SEED", args.seed.to_string());
    // Without root it would be skipped.
    test.env("SCANGUARD_NO_SKIP", "1");
    process::run(&mut test)
}
