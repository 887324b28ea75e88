//! `cargo xtask bench`: what ScanGuard costs. Measurements, never tests.

mod agent_costs;
mod allocations;
mod c_programs;
mod clients_out;
mod drop;
mod end_to_end;
mod flood;
mod latency;
mod live;
mod machine;
mod model;
mod outbound;
mod packets;
mod peers;
mod plots;
mod report;
mod scale;
mod setups;
mod subjects;
mod throughput;
mod wire;
mod work;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use model::{Part, Report};
use scanguard_tests::fixtures::{cleanup, root};
use work::Effort;

/// Measures ScanGuard's costs: nanoseconds a packet, unless something else is asked for.
#[derive(Debug, Parser)]
struct Arguments {
    /// Over a wire instead: frames a second, throughput of servers, CPU under masscan, what the agent takes
    #[arg(long)]
    end_to_end: bool,
    /// A scan beside Suricata, psad, CrowdSec, nftables, iptables, portsentry and scanlogd instead, at several rates
    #[arg(long)]
    peers: bool,
    /// A table of so many sources instead: its memory, and what a poll takes
    #[arg(long, value_name = "SOURCES", num_args = 0..=1, default_missing_value = SOURCES,
        value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    scale: Option<u32>,
    /// Real scans within a flood of ten million forged sources, and within garbage, at full speed instead
    #[arg(long)]
    flood: bool,
    /// The time from a packet to the finding instead, while masscan runs at full speed
    #[arg(long, conflicts_with_all = ["end_to_end", "outbound", "peers", "scale", "flood", "drop", "write", "plots"])]
    latency: bool,
    /// What the programs for outbound traffic take of connections and datagrams instead, beside the same in C
    #[arg(long)]
    outbound: bool,
    /// The time from a packet to the first that is dropped instead, by real scanners
    #[arg(long)]
    drop: bool,
    /// Measure all parts and write docs/performance.md; with --peers or --scale, that chapter alone
    #[arg(long, conflicts_with_all = ["end_to_end", "outbound", "flood", "drop"])]
    write: bool,
    /// Draw the plots of docs/performance.md by the figures of --from alone, and measure nothing
    #[arg(long, requires = "from",
        conflicts_with_all = ["end_to_end", "outbound", "peers", "scale", "flood", "drop", "write", "json"])]
    plots: bool,
    /// With --write: take the figures from files that --json wrote, and measure only the parts that they lack. With
    /// --plots: draw these
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Packet by packet: rounds
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Packet by packet: packets of one kind in a round
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    packets: u32,
    /// Packet by packet, and beside peers: only the rows whose names contain this, beside the empty program's, or
    /// nothing's
    #[arg(long, value_name = "WORD", conflicts_with = "write")]
    only: Option<String>,
    /// Over a wire: seconds of one measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Over a wire: turns, each of which measures everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    turns: u32,
}

/// Sources of a large table, unless it is said how many.
const SOURCES: &str = "1000000";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "loading programs and making namespaces needs root");
    cleanup::on_signals()?;
    if arguments.latency {
        return latency::run();
    }
    let mut reports = Vec::new();
    for file in &arguments.from {
        reports.extend(Report::read(file)?);
    }
    if arguments.plots {
        return report::draw(&reports);
    }
    ensure!(arguments.write || reports.is_empty(), "--from goes with --write or --plots");
    for part in arguments.parts() {
        if reports.iter().all(|report| report.part != part) {
            let report = arguments.measure(part)?;
            report.print();
            reports.push(report);
        }
    }
    if let Some(file) = &arguments.json {
        model::write(&reports, file)?;
    }
    match (arguments.write, arguments.is_of_chapters()) {
        (true, true) => {
            let parts = arguments.parts();
            reports.iter().filter(|report| parts.contains(&report.part)).try_for_each(report::replace)
        }
        (true, false) => report::write(reports),
        (false, _) => Ok(()),
    }
}

impl Arguments {
    /// Whether chapters are named that can be written alone.
    fn is_of_chapters(&self) -> bool {
        self.peers || self.scale.is_some()
    }

    fn parts(&self) -> Vec<Part> {
        let asked = |part: &Part| match part {
            Part::Packets => {
                !(self.end_to_end
                    || self.outbound
                    || self.peers
                    || self.scale.is_some()
                    || self.flood
                    || self.drop)
            }
            Part::EndToEnd => self.end_to_end,
            Part::Outbound => self.outbound,
            Part::Peers => self.peers,
            Part::Scale => self.scale.is_some(),
            Part::Flood => self.flood,
            Part::Drop => self.drop,
        };
        Part::ALL.into_iter().filter(|part| (self.write && !self.is_of_chapters()) || asked(part)).collect()
    }

    fn measure(&self, part: Part) -> Result<Report> {
        let effort = Effort { seconds: self.seconds, turns: self.turns as usize };
        match part {
            Part::Packets => packets::run(self.rounds as usize, self.packets, self.only.as_deref()),
            Part::EndToEnd => end_to_end::run(effort),
            Part::Outbound => outbound::run(effort),
            Part::Peers => peers::run_all(effort, self.only.as_deref()),
            Part::Scale => scale::run(
                self.scale.map_or_else(|| SOURCES.parse().map_err(Into::into), Ok::<_, anyhow::Error>)?,
            ),
            Part::Flood => flood::run(effort),
            Part::Drop => drop::run(effort),
        }
    }
}
