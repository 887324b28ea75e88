//! `cargo xtask adversary`: every attack on a bridge of namespaces against the real agent, and what holds. With `--write`,
//! docs/adversary.md. Fails if a row is not as it says: it holds, or it is a limit that does not.

mod report;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_tests::{
    adversary::{self, Expect, Row, outcome::Outcome, scene},
    fixtures::{cleanup, root},
    matrix::{cases::play::POLL_INTERVAL, side_by_side},
};

/// Attacks sensors, and those whom they serve, in network namespaces.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only rows whose name or role contains this
    pattern: Option<String>,
    /// Write docs/adversary.md, which needs all rows
    #[arg(long, conflicts_with = "pattern")]
    write: bool,
    /// Also the rows that take minutes
    #[arg(long)]
    slow: bool,
    /// Say what there is, and do nothing
    #[arg(long)]
    list: bool,
    /// Rows at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// The sensor's poll interval; all else is as it is by default
    #[arg(long, default_value = POLL_INTERVAL)]
    poll_interval: String,
}

/// Where the table goes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/adversary.md");

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let rows: Vec<_> = adversary::all().filter(|row| matches(row, arguments.pattern.as_deref())).collect();
    ensure!(!rows.is_empty(), "no row is called so; --list shows all");
    if arguments.list {
        for row in &rows {
            let expect = match row.expect {
                Expect::Holds => "holds",
                Expect::Limit(_) => "limit",
            };
            let slow = if row.slow { ", slow" } else { "" };
            println!("{}: {} [{}, {expect}{slow}]", row.role.label(), row.name, row.position.label());
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(root::is_root(), "network namespaces and XDP need root");
    cleanup::on_signals()?;
    let start = Instant::now();
    let outcomes = play_all(&rows, &arguments);
    let summary = report::Summary::of(&outcomes);
    println!("\n{summary}, in {} s", start.elapsed().as_secs());
    if arguments.write {
        std::fs::write(PAGE, report::markdown(&arguments.poll_interval, &rows, &outcomes))?;
        println!("written: docs/adversary.md");
    }
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn matches(row: &Row, pattern: Option<&str>) -> bool {
    pattern.is_none_or(|pattern| row.name.contains(pattern) || row.role.label().contains(pattern))
}

/// Outcomes in the order of the rows; none for those that are left out as slow.
fn play_all(rows: &[Row], arguments: &Arguments) -> Vec<Option<Outcome>> {
    // The longest first, so that none of them is played alone at the end.
    let mut order: Vec<_> = (0..rows.len()).collect();
    order.sort_by_key(|number| !rows[*number].slow);
    side_by_side::play(rows, order, arguments.jobs, |row| {
        if row.slow && !arguments.slow {
            println!("{:<8} {}: {}", "slow", row.role.label(), row.name);
            return None;
        }
        let outcome = scene::play(row, &arguments.poll_interval);
        println!("{:<8} {}: {} ({outcome})", outcome.label(), row.role.label(), row.name);
        Some(outcome)
    })
}
