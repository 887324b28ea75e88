//! The bench in short: that it still measures everything it is to measure. Never how long something takes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{lab::run, scratch::Scratch};
use serde_json::Value;

use crate::trial;

/// All rows of `cargo xtask bench` without options.
const ROWS: [&str; 31] = [
    "empty",
    "c_parse",
    "tcp_established",
    "tcp6_established",
    "arp",
    "c_syn_known",
    "syn_known",
    "syn6_known",
    "c_syn_new",
    "syn_new",
    "c_dropped",
    "dropped",
    "icmp_echo",
    "udp",
    "syn_behind_3_tags",
    "syn_behind_375_tags",
    "syn6_behind_2048_bytes_of_options",
    "syn6_behind_184_headers",
    "tcp_data_sampling_off",
    "tcp_data_unsampled_port",
    "tls_data_no_match",
    "tcp_data_no_match",
    "http_over_budget",
    "http_sampled",
    "tc_established",
    "tc_syn_known",
    "egress_empty",
    "egress_data",
    "egress_no_match",
    "egress_datagram_of_service",
    "egress_datagram",
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("the bench measures every kind of packet and compares those that have a target", short)]
}

/// Whether a row may go without figures: those with C need a compiler, which tests do without.
fn is_excused(row: &Value) -> bool {
    row["not_measured"].as_str().is_some_and(|why| why.contains("clang") || why == "one of the two was not")
        && Command::new("clang").arg("--version").output().is_err()
}

fn short() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("bench.json");
    // Enough packets for the time of one call to be far more than a clock's tick.
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    run(bench.args(["--rounds", "1", "--packets", "5000", "--json"]).arg(&file))?;
    let reports: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let [costs, ratios] = reports[0]["tables"].as_array().context("tables")?.as_slice() else {
        anyhow::bail!("two tables: {reports:#}");
    };
    let rows = costs["rows"].as_array().context("rows")?;
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    ensure!(names == ROWS, "{names:?}");
    let has = |row: &Value, key: &str| row[key].as_f64().is_some_and(|figure| figure > 0.0);
    for row in rows {
        ensure!(is_excused(row) || has(row, "ns_min") && has(row, "ns_median"), "{row}");
    }
    let ratios = ratios["rows"].as_array().context("rows")?;
    let targets = reports[0]["targets"].as_array().context("targets")?;
    ensure!(ratios.len() == 6 && targets.len() == ratios.len(), "{ratios:?} {targets:?}");
    for row in ratios {
        ensure!(is_excused(row) || has(row, "of_minima") && has(row, "limit"), "{row}");
    }
    Ok(())
}
