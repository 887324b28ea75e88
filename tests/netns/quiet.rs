//! The matrix in short: cases that take seconds and need no tools but those of the other tests. All of them are
//! played by `cargo xtask matrix`.

use anyhow::{Result, bail};
use libtest_mimic::Trial;
use scanguard_tests::matrix::cases::{
    self, Case, Expect,
    outcome::Verdict,
    play::{POLL_INTERVAL, play},
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let tested = cases::all().filter(|case| case.tested);
    let named = tested.map(|case| {
        let prefix = match case.expect {
            Expect::Found => "matrix, found",
            Expect::Quiet => "matrix, quiet",
            Expect::Spared => "matrix, honest",
        };
        trial(format!("{prefix}: {}", case.name), move || as_expected(&case))
    });
    named.collect()
}

fn as_expected(case: &Case) -> Result<()> {
    let outcome = play(case, POLL_INTERVAL);
    match outcome.verdict {
        Verdict::Found | Verdict::Quiet | Verdict::Limited => Ok(()),
        Verdict::Missed | Verdict::Flagged | Verdict::Failed(_) => {
            bail!("{}: {outcome}: {:#?}", outcome.verdict.label(), outcome.opened())
        }
    }
}
