//! `scanguard replay`: captures made here, through the command and through the library, in software and
//! through the kernel.

mod command;
mod filtered;
mod kernel;
mod library;
mod scenes;
mod silence;
mod strays;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let trials = [
        command::trials(),
        library::trials(),
        strays::trials(),
        filtered::trials(),
        silence::trials(),
        kernel::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test that needs no privileges.
fn trial(name: &str, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}
