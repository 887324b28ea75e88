//! `cargo xtask fleet`: a fleet of thousands that is played, with a real server and the real role.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_tests::{
    fixtures::{cleanup, root},
    simulation::{self, Plan, report},
};

/// Plays a fleet, and measures what it finds and what it costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many hosts; may be given several times
    #[arg(long, default_values_t = [1_000], value_parser = clap::value_parser!(u32).range(100..=15_000))]
    hosts: Vec<u32>,
    /// Seconds of quiet that are measured
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=3_600))]
    seconds: u32,
    /// Write docs/fleet-performance.md, if nothing went wrong
    #[arg(long)]
    write: bool,
}

/// Where the report goes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet-performance.md");
/// From the ninth probe to the decision at 99 % of the members.
const SLOWEST: Duration = Duration::from_secs(1);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "network namespaces need root");
    cleanup::on_signals()?;
    let mut all = Vec::new();
    for hosts in arguments.hosts {
        let plan = Plan {
            hosts,
            clients: 10_000,
            warm_up: Duration::from_secs(60).min(2 * Duration::from_secs(arguments.seconds.into())),
            quiet: Duration::from_secs(arguments.seconds.into()),
            busy: Duration::from_secs(90),
            scanners: 4,
            limits: true,
        };
        let mut figures = simulation::run(&plan, &mut |line| println!("{line}"))?;
        figures.judge(SLOWEST);
        for failure in figures.failures.iter().take(20) {
            println!("WRONG: {failure}");
        }
        for warning in figures.warnings.iter().take(20) {
            println!("the role: {warning}");
        }
        println!("{:?}; lag {}", figures.by_scanner, figures.lag);
        all.push(figures);
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let build = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cpus = std::thread::available_parallelism()?;
    let page = report::page(&all, &format!("Linux {}, {cpus} CPUs, a {build} build", kernel.trim()));
    println!("\n\n{page}");
    if all.iter().any(|figures| !figures.failures.is_empty()) {
        return Ok(ExitCode::FAILURE);
    }
    if arguments.write {
        std::fs::write(PAGE, page)?;
        println!("written: docs/fleet-performance.md");
    }
    Ok(ExitCode::SUCCESS)
}
