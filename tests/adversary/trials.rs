//! The rows of the adversary suite as tests: all but those that take minutes.

use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use scanguard_tests::{
    adversary::{self, Row, scene},
    fixtures::root,
    matrix::cases::play::POLL_INTERVAL,
};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Attackers, servers and sensors share the machine: more at once only makes them slow.
    arguments.test_threads.get_or_insert(2);
    let trials = adversary::all().filter(|row| !row.slow).map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(row: Row) -> Trial {
    let name = format!("{}: {}", row.role.label(), row.name);
    root::trial(name, move || as_said(&row).map_err(|error| Failed::from(format!("{error:#}"))))
}

fn as_said(row: &Row) -> Result<()> {
    let outcome = scene::play(row, POLL_INTERVAL);
    if !outcome.is_as_expected() {
        bail!("{}: {outcome}; must hold: {}", outcome.label(), row.must);
    }
    Ok(())
}
