//! `cargo xtask vm`: other kernels, booted in qemu, and what works on each of them.
//!
//! The kernels are Debian's packages, unpacked below `target/vm`; a guest is such a kernel and an initramfs of the
//! agent, its tests and the few tools that these call. Without hardware acceleration a guest is some 20 times slower
//! than this host, so that only a part of the tests runs there: see [`guest::STEPS`].

mod guest;
mod kernels;
mod page;
mod tree;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    process,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of kernels, such as 6.1; all that are listed in docs/kernels.md if none is named
    series: Vec<String>,
    /// Write docs/kernels.md; what is not run this time stays in it as it is
    #[arg(long)]
    write: bool,
    /// Only these steps: doctor, run, progrun, native, generic, scan, persist, sandbox
    #[arg(long, value_delimiter = ',', value_parser = guest::step, conflicts_with = "write")]
    steps: Vec<&'static str>,
}

/// Runs `cargo xtask vm`.
///
/// # Errors
/// When setup or the build fails, a kernel cannot be had or does not boot, or what it does is not what is expected of it.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    let wanted = kernels::chosen(&args.series)?;
    setup::ensure(ws, Purpose::Vm)?;
    let binaries = build(ws)?;
    let directory = ws.target().join("vm");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let archive = kernels::Archive::open(ws, &directory)?;
    let page = ws.docs().join("kernels.md");
    let mut results = page::read(&fs::read_to_string(&page).unwrap_or_default());
    let mut failed = Vec::new();
    for series in wanted {
        let kernel = archive.get(ws, series)?;
        println!("{}: booting", kernel.release);
        let image = tree::initramfs(ws, &directory, &kernel, &binaries, &guest::script(&args.steps))?;
        let log = directory.join(format!("{}.log", kernel.release));
        let result = guest::boot(ws, &kernel, &image, &log)?;
        for line in result.lines() {
            println!("  {line}");
        }
        println!("  console: {}", ws.display(&log));
        if !result.is_as_expected(series.support, &args.steps) {
            failed.push(kernel.release.clone());
        }
        results.insert(series.name.to_owned(), page::row(series, &kernel.release, &result));
        if args.write {
            fs::write(&page, page::write(&results)).with_context(|| page.display().to_string())?;
        }
    }
    if !failed.is_empty() {
        bail!("not what is expected of them: {}", failed.join(", "));
    }
    Ok(())
}

/// Programs that run in the guests.
struct Binaries {
    agent: PathBuf,
    program_tests: PathBuf,
    interface_tests: PathBuf,
}

fn build(ws: &Workspace) -> Result<Binaries> {
    // Both at once: they then have the features that the tests are built with.
    process::run(ws.cargo("build").args([
        "--package",
        "scanguard",
        "--package",
        "scanguard-tests",
        "--bins",
    ]))?;
    let mut tests = ws.cargo("test");
    tests.args(["--package", "scanguard-tests", "--no-run", "--test", "progrun", "--test", "netns"]);
    process::run(&mut tests)?;
    // Cargo says on standard error where they are; in this form, on standard output.
    let said =
        process::answer(tests.arg("--message-format=json")).context("cargo did not say what it built")?;
    let test = |name| executable(&said, name).with_context(|| format!("cargo did not say where {name} is"));
    Ok(Binaries {
        agent: ws.target().join("debug/scanguard"),
        program_tests: test("progrun")?,
        interface_tests: test("netns")?,
    })
}

/// Where the test of that name lies, by cargo's messages: one a line, in JSON, the path without a character that is
/// written otherwise there.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    let target = format!("\"kind\":[\"test\"],\"crate_types\":[\"bin\"],\"name\":\"{test}\"");
    let line = messages.lines().find(|line| line.contains(&target))?;
    let (_, rest) = line.split_once("\"executable\":\"")?;
    rest.split('"').next().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_found_in_what_cargo_says() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"lib\"],\"crate_types\":[\"lib\"],\
            \"name\":\"netns\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"test\"],\"crate_types\":[\"bin\"],\
            \"name\":\"netns\"},\"executable\":\"/x/netns-1\",\"fresh\":true}\n";
        assert_eq!(executable(messages, "netns"), Some(PathBuf::from("/x/netns-1")));
        assert_eq!(executable(messages, "progrun"), None);
    }
}
