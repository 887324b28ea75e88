//! `cargo xtask soak`: mixed traffic for half an hour, and what is left of memory, descriptors and exact counts after it.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_tests::{
    fixtures::{cleanup, root},
    soak::{self, Plan},
};

/// Keeps a sensor under mixed traffic in network namespaces, and looks at what is left.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
    /// Reloads over all of it
    #[arg(long, default_value_t = 10_000)]
    reloads: u32,
    /// Write docs/soak.md, if nothing went wrong
    #[arg(long)]
    write: bool,
}

/// Where the report goes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/soak.md");
/// Long enough for a ban to end within it, short enough to see a drift.
const ROUND: Duration = Duration::from_secs(60);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "network namespaces and XDP need root");
    cleanup::on_signals()?;
    let length = Duration::from_secs(60) * arguments.minutes;
    let plan = Plan { length, round: ROUND.min(length / 4), reloads: arguments.reloads, flood: 10_000 };
    let is_terminal = stdout().is_terminal();
    let report = soak::run(&plan, &mut |sample| {
        let part = sample.at.as_secs_f64() / length.as_secs_f64();
        let line = format!("{:>3.0} %  {}", 100.0 * part.min(1.0), sample.line());
        // On a terminal one line that changes; elsewhere each stays.
        if is_terminal {
            print!("\r\x1b[K{line}");
            // A terminal that is gone changes nothing.
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    })?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let build = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cpus = std::thread::available_parallelism()?;
    let about = format!("the last run: Linux {}, {cpus} CPUs, a {build} build", kernel.trim());
    let page = report.page(&about);
    println!("\n\n{page}");
    if !report.failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if arguments.write {
        std::fs::write(PAGE, page)?;
        println!("written: docs/soak.md");
    }
    Ok(ExitCode::SUCCESS)
}
