//! `cargo xtask vm`: other kernels, booted in qemu, and what works on each of them.
//!
//! The kernels are Debian's packages, unpacked below `target/vm`; a guest is such a kernel and an initramfs of the
//! agent, its tests and the few tools that these call. Without hardware acceleration a guest is some 20 times slower
//! than this host, so that only a part of the tests runs there: see [`guest::STEPS`].

mod arch;
mod drivers;
mod guest;
mod kernels;
mod page;
mod tree;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};

use self::{arch::Arch, kernels::Flavour};
use crate::{
    process, setup,
    workspace::{Workspace, is_root},
};

/// Arguments of `vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of kernels, such as 6.1; all that are listed in docs/kernels.md if none is named
    series: Vec<String>,
    /// The processor of the guests; this machine's if none is named
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Try drivers of network cards instead, on 6.1 and 6.12 if no series is named (needs root)
    #[arg(long, conflicts_with_all = ["arch", "steps"])]
    drivers: bool,
    /// Only these cards: virtio-net, virtio-net-9000, ...; a wrong name is answered with all
    #[arg(long, value_delimiter = ',', value_parser = drivers::card, requires = "drivers")]
    cards: Vec<&'static str>,
    /// Write docs/kernels.md, or docs/drivers.md; what is not run this time stays in it as it is
    #[arg(long)]
    write: bool,
    /// Only these steps: doctor, run, progrun, native, generic, scan, persist, sandbox
    #[arg(long, value_delimiter = ',', value_parser = guest::step, conflicts_with = "write")]
    steps: Vec<&'static str>,
}

/// Modules of these tests, if the kernel has them as such.
const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];

/// Runs `cargo xtask vm`.
///
/// # Errors
/// When setup or the build fails, a kernel cannot be had or does not boot, or what it does is not what is expected of it.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    let wanted = kernels::chosen(&args.series)?;
    let arch = args.arch.unwrap_or_else(Arch::of_host);
    if args.drivers {
        ensure!(is_root(), "the cards are connected in a network namespace: this needs root");
        ensure!(arch == Arch::X86, "cards are tried in guests of x86_64");
    }
    setup::ensure(ws, arch.purpose())?;
    let binaries = build(ws, arch)?;
    let directory = ws.target().join("vm");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let archive = kernels::Archive::open(ws, &directory, arch)?;
    let system = tree::System::of(ws, arch, &archive)?;
    let guests = Guests { arch, directory, archive, system, binaries };
    if args.drivers { drivers::run(ws, &guests, args) } else { tests(ws, &guests, &wanted, args) }
}

/// What guests are made of.
struct Guests {
    arch: Arch,
    directory: PathBuf,
    archive: kernels::Archive,
    system: tree::System,
    binaries: Binaries,
}

impl Guests {
    /// An initramfs whose first process is the script that comes of the names of these modules' files.
    fn image(
        &self,
        ws: &Workspace,
        kernel: &kernels::Kernel,
        modules: &[&str],
        script: impl FnOnce(&[String]) -> String,
    ) -> Result<PathBuf> {
        let modules = kernel.modules(ws, modules)?;
        let names: Result<Vec<_>> = modules.iter().map(|module| tree::name_of_module(module)).collect();
        tree::initramfs(ws, &self.directory, &self.system, &self.binaries, &modules, &script(&names?))
    }
}

fn tests(ws: &Workspace, guests: &Guests, wanted: &[&'static kernels::Series], args: &Args) -> Result<()> {
    let page = ws.docs().join("kernels.md");
    let mut results = page::read(&fs::read_to_string(&page).unwrap_or_default());
    let mut failed = Vec::new();
    for series in wanted {
        let kernel = guests.archive.get(ws, series, Flavour::Cloud)?;
        println!("{}: booting", kernel.release);
        let image = guests
            .image(ws, &kernel, &MODULES, |modules| guest::script(guests.arch, modules, &args.steps))?;
        let log = guests.directory.join(format!("{}.log", kernel.release));
        let result =
            guest::read(&guest::boot(ws, guests.arch, &kernel, &image, &log, guest::LIMIT, |qemu| qemu)?);
        for line in result.lines() {
            println!("  {line}");
        }
        for loss in result.losses() {
            println!("  doctor: {loss}{}", if series.expects(&loss) { "" } else { " (NOT EXPECTED)" });
        }
        println!("  console: {}", ws.display(&log));
        if !result.is_as_expected(series, &args.steps) {
            failed.push(kernel.release.clone());
        }
        results.insert(page::key(series.name, &kernel.release), page::row(series, &kernel.release, &result));
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

fn build(ws: &Workspace, arch: Arch) -> Result<Binaries> {
    let target = arch.target();
    target.install(ws)?;
    // Both at once: they then have the features that the tests are built with.
    let mut binaries = ws.cargo("build");
    binaries.args(["--package", "scanguard", "--package", "scanguard-tests", "--bins"]);
    target.configure(&mut binaries);
    process::run(binaries.args(target.options()))?;
    let mut tests = ws.cargo("test");
    tests.args(["--package", "scanguard-tests", "--no-run", "--test", "progrun", "--test", "netns"]);
    target.configure(&mut tests);
    tests.args(target.options());
    process::run(&mut tests)?;
    // Cargo says on standard error where they are; in this form, on standard output.
    let said =
        process::answer(tests.arg("--message-format=json")).context("cargo did not say what it built")?;
    let test = |name| executable(&said, name).with_context(|| format!("cargo did not say where {name} is"));
    Ok(Binaries {
        agent: ws.target().join(target.directory()).join("debug/scanguard"),
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
