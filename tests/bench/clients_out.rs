//! Clients on a host that looks at what leaves: wrk with a connection for each request, with `outbound.enabled` and
//! without, in turns.

use std::fs;

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::{
    agent::{Agent, give},
    lab::{Lab, SCANNER},
    stage::Stage,
};

use crate::{
    model::{Bound, Cell, Table, Target, median},
    throughput,
    work::Effort,
};

/// Of the connections without, at least so much is to be left.
const LIMIT: f64 = 0.97;

/// The agent's configuration, with and without.
const SETUPS: [&str; 2] = ["[outbound]\nenabled = true\n", "[outbound]\nenabled = false\n"];

/// Measures; the table, and what is to be left.
///
/// # Errors
/// A client or server is missing.
pub(crate) fn measure(effort: Effort) -> Result<(Table, Vec<Target>)> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    stage.nginx(&lab.scanner, &[80]).context("nginx; `cargo xtask setup --for bench` gets it")?;
    let seconds = effort.seconds.min(3).to_string();
    let config = lab.victim.directory().join("bench.toml");
    let mut rates: [Vec<f64>; 2] = Default::default();
    for turn in 1..=effort.turns {
        eprintln!("clients of this host, turn {turn} of {}", effort.turns);
        let mut order = [0, 1];
        if turn % 2 == 0 {
            // Each comes first as often as the other.
            order.reverse();
        }
        for which in order {
            fs::write(&config, SETUPS[which])?;
            give(&config)?;
            let path = config.to_str().context("UTF-8")?;
            let _agent = Agent::start(&lab.victim, &["--format", "json", "--config", path])?;
            let rate = throughput::wrk(&lab.victim, SCANNER, &seconds, &["-H", "Connection: close"])?;
            rates[which].push(rate);
        }
    }
    let [with, without] = &rates;
    let ratios: Vec<_> = with.iter().zip(without).map(|(with, without)| with / without).collect();
    let about = format!(
        "wrk on the host with the agent asks a server elsewhere, each request over a new connection; {seconds} s each, \
         {} turns, medians. The ratio is the median of the ratios within each turn.",
        effort.turns
    );
    let mut table =
        Table::new("Clients of this host", &about, &["with_outbound", "without", "with_to_without"]);
    let cells = [median(with), median(without), median(&ratios)];
    table.push("wrk, connections/s", cells.into_iter().flatten().map(Cell::from));
    let target = Target::new(
        "what leaves: wrk, connections/s: with / without",
        median(&ratios),
        Bound::AtLeast,
        LIMIT,
        "",
    );
    Ok((table, vec![target]))
}
