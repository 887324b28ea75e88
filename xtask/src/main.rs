//! `cargo xtask CMD`: what people would otherwise type by hand. One file per command.

mod adversary;
mod apt;
mod bench;
mod build;
mod check;
mod demo;
mod docs;
mod fleet;
mod fuzz;
mod matrix;
mod miri;
mod package;
mod process;
mod reproducible;
mod sbom;
mod setup;
mod soak;
mod target;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// ScanGuard's tasks. Each command first installs what it needs and does not find.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building, checking and testing need; safe to repeat
    Setup(setup::Args),
    /// Build the agent with its eBPF program inside, and say where it is
    Build(build::Args),
    /// Format, lints of both sides, documentation, licences and duplicates of dependencies
    Check(check::Args),
    /// All tests; those that load programs or make namespaces need root, else they are skipped
    Test(test::Args),
    /// Scan a sensor in namespaces of its own and watch what it finds (needs root)
    Demo(demo::Args),
    /// Attack a sensor and its clients as forgers, evaders and exhausters do; --write for docs/adversary.md (needs root)
    Adversary(adversary::Args),
    /// Play every scan and every honest case with real tools; a table of what is found (needs root)
    Matrix(matrix::Args),
    /// Keep a sensor under mixed traffic for half an hour; nothing may be lost or grow (needs root)
    Soak(soak::Args),
    /// Play a fleet of thousands of hosts against a real server and the real role; --write for the page (needs root)
    Fleet(fleet::Args),
    /// Make the packages: target/package/release/scanguard*.deb and .rpm; --target for arm64 and for static binaries
    Package(package::Args),
    /// Compare docs/metrics.md, the dashboard and the alerts with the code; --write writes what is generated
    Docs(docs::Args),
    /// Fuzz every parser of outside data, or compare the kernel program with the host on random packets
    Fuzz(fuzz::Args),
    /// Run the tests of the code that kernel and agent share under Miri (needs a nightly toolchain)
    Miri,
    /// Measure what it costs: a packet, or --end-to-end, --peers, --scale; --write for the page (needs root)
    Bench(bench::Args),
    /// Boot other kernels in qemu and run doctor, tests and scans there; --write for docs/kernels.md
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = Workspace::find().and_then(|ws| match command {
        Command::Setup(args) => setup::command(&ws, &args),
        Command::Build(args) => build::command(&ws, &args),
        Command::Check(args) => check::command(&ws, &args),
        Command::Test(args) => test::command(&ws, &args),
        Command::Demo(args) => demo::command(&ws, &args),
        Command::Adversary(args) => adversary::command(&ws, &args),
        Command::Matrix(args) => matrix::command(&ws, &args),
        Command::Soak(args) => soak::command(&ws, &args),
        Command::Fleet(args) => fleet::command(&ws, &args),
        Command::Package(args) => package::command(&ws, &args),
        Command::Docs(args) => docs::command(&ws, &args),
        Command::Fuzz(args) => fuzz::command(&ws, &args),
        Command::Miri => miri::command(&ws),
        Command::Bench(args) => bench::command(&ws, &args),
        Command::Vm(args) => vm::command(&ws, &args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(process::exit_code(&error))
        }
    }
}
