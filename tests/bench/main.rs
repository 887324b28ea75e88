//! `cargo xtask bench`: what ScanGuard costs. Measurements, never tests.

mod c_programs;
mod latency;
mod machine;
mod model;
mod packets;
mod subjects;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_tests::{cleanup, root};

/// What ScanGuard costs: nanoseconds a packet, unless something else is asked for.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the time from a packet to the finding instead, while masscan runs at full speed
    #[arg(long)]
    latency: bool,
    /// Rounds
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// Packets of one kind in a round
    #[arg(long, default_value_t = 200_000)]
    packets: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "loading programs and making namespaces needs root");
    ensure!(arguments.rounds > 0 && arguments.packets > 0, "at least one round and one packet");
    cleanup::on_signals()?;
    if arguments.latency {
        return latency::run();
    }
    let report = packets::run(arguments.rounds, arguments.packets)?;
    report.print();
    if let Some(file) = &arguments.json {
        model::write(&[report], file)?;
    }
    Ok(())
}
