//! Costs of the agent itself: at rest, while it is scanned, and in a flood of forged sources.

use std::{process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::{
    agent::Agent,
    lab::{Lab, Process, VICTIM},
};

use crate::{
    machine::usage,
    model::{Cell, Table},
    work::{self, Effort},
};

/// Traffic during a measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Load {
    Rest,
    Scan,
    Flood,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Rest => "at rest",
            Self::Scan => "masscan, one source",
            Self::Flood => "hping3 --flood --rand-source",
        }
    }

    fn run(self, lab: &Lab, seconds: u32) -> Result<()> {
        let time = Duration::from_secs(u64::from(seconds));
        match self {
            Self::Rest => thread::sleep(time),
            Self::Scan => work::masscan(lab, seconds)?,
            Self::Flood => {
                let mut hping = lab.scanner.command("hping3");
                hping.args(["--flood", "--rand-source", "--syn", "-p", "80", VICTIM]);
                hping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let _flood = Process::new(hping.spawn().context("hping3")?);
                thread::sleep(time);
            }
        }
        Ok(())
    }
}

/// One row for each load, one agent for all of them.
///
/// # Errors
/// The agent does not start, or a tool is missing.
pub(crate) fn run(effort: Effort) -> Result<Table> {
    let about = format!(
        "One agent runs with its defaults; the loads follow one after the other, {} s each. CPU is that of the \
         agent's process, without the kernel's part. Memory is the resident memory at the end. Packets are those \
         that the sensor counted meanwhile.",
        effort.seconds
    );
    let columns = ["cpu_seconds", "cpu_percent", "resident_mib", "packets", "sources_in_table"];
    let mut table = Table::new("The agent", &about, &columns);
    let work::Field { lab, .. } = &work::Field::new()?;
    let agent = Agent::start(&lab.victim, &["--format", "json"])?;
    let pid = agent.process.child.id();
    for load in [Load::Rest, Load::Scan, Load::Flood] {
        eprintln!("the agent: {}", load.name());
        let (before, packets) = (usage(pid)?, agent.metrics()?.packets());
        let start = std::time::Instant::now();
        load.run(lab, effort.seconds)?;
        let (after, elapsed) = (usage(pid)?, start.elapsed().as_secs_f64());
        let metrics = agent.settled()?;
        let cpu = after.seconds - before.seconds;
        let cells = [
            cpu,
            100.0 * cpu / elapsed,
            after.resident as f64 / f64::from(1 << 20),
            metrics.packets() - packets,
            metrics.get("scanguard_sources"),
        ];
        table.push(load.name(), cells.map(Cell::from));
    }
    Ok(table)
}
