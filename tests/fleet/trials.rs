//! A short simulation of a fleet.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed};
use scanguard_tests::{
    fixtures::root,
    simulation::{self, Plan},
};

/// On a busy machine, in a debug build.
const SLOWEST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let name = "a fleet of 200 finds who asks each host once, and nobody else, also while a service is out";
    let trial = root::trial(name, || short().map_err(|error| Failed::from(format!("{error:#}"))));
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn short() -> Result<()> {
    let plan = Plan {
        hosts: 200,
        clients: 10_000,
        warm_up: Duration::from_secs(8),
        quiet: Duration::from_secs(4),
        busy: Duration::from_secs(16),
        scanners: 2,
        limits: false,
    };
    let mut figures = simulation::run(&plan, &mut |line| println!("{line}"))?;
    figures.judge(SLOWEST);
    ensure!(figures.failures.is_empty(), "{:#?}", figures.failures);
    Ok(())
}
