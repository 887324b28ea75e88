//! `cargo xtask matrix`: every case with real tools in namespaces of its own, and what the sensor made of it.
//! With `--write`, docs/coverage.md. Fails if a scan is missed or honest traffic is flagged.

mod report;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_tests::{
    fixtures::{cleanup, root},
    matrix::{
        cases::{
            self, Case,
            outcome::{Outcome, Verdict},
            play,
        },
        side_by_side,
    },
};

/// Scans sensors, and spares them, with real tools in network namespaces.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only cases whose name or group contains this
    pattern: Option<String>,
    /// Write docs/coverage.md, which needs all cases
    #[arg(long, conflicts_with = "pattern")]
    write: bool,
    /// Also the cases that take minutes
    #[arg(long)]
    slow: bool,
    /// Say what there is, and do nothing
    #[arg(long)]
    list: bool,
    /// Cases at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// The sensor's poll interval; all else is as it is by default
    #[arg(long, default_value = play::POLL_INTERVAL)]
    poll_interval: String,
    /// Print the findings of every case
    #[arg(long)]
    verbose: bool,
}

/// Where the table goes.
const COVERAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md");

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cases: Vec<_> = cases::all().filter(|case| matches(case, arguments.pattern.as_deref())).collect();
    ensure!(!cases.is_empty(), "no case is called so; --list shows all");
    if arguments.list {
        for Case { name, group, expect, slow, .. } in &cases {
            println!("{group}: {name} [{expect:?}{}]", if *slow { ", slow" } else { "" });
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(root::is_root(), "network namespaces and XDP need root");
    cleanup::on_signals()?;
    let start = Instant::now();
    let outcomes = play_all(&cases, &arguments);
    let summary = report::Summary::of(&cases, &outcomes);
    println!("\n{summary}, in {} s", start.elapsed().as_secs());
    if arguments.write {
        let path = PathBuf::from(COVERAGE);
        let about = report::About::this_machine(&arguments.poll_interval);
        std::fs::write(&path, report::markdown(&about, &cases, &outcomes))?;
        println!("written: docs/coverage.md");
    }
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn matches(case: &Case, pattern: Option<&str>) -> bool {
    pattern.is_none_or(|pattern| case.name.contains(pattern) || case.group.contains(pattern))
}

/// Outcomes in the order of the cases; none for those that are left out as slow.
fn play_all(cases: &[Case], arguments: &Arguments) -> Vec<Option<Outcome>> {
    side_by_side::play(cases, (0..cases.len()).collect(), arguments.jobs, |case| {
        if case.slow && !arguments.slow {
            println!("{:<8} {}", "slow", case.name);
            return None;
        }
        let outcome = play::play(case, &arguments.poll_interval);
        print(case, &outcome, arguments.verbose);
        Some(outcome)
    })
}

fn print(case: &Case, outcome: &Outcome, verbose: bool) {
    // One write, so that the lines of two cases do not mix.
    let mut text = format!("{:<8} {} ({outcome})", outcome.verdict.label(), case.name);
    if verbose || matches!(outcome.verdict, Verdict::Flagged) {
        for finding in outcome.opened() {
            text += &format!("\n           {} {}: {}", finding.rule, finding.source, finding.reason);
        }
    }
    println!("{text}");
}
