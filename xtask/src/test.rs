//! `cargo xtask test`: every test of the workspace, and an honest word about those that did not run.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    build::Profile,
    package, process,
    setup::{self, Purpose},
    target::Target,
    workspace::{Workspace, is_root},
};

/// Arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the tests: a part of their names, or options such as --exact
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// All that can be built for the host.
const HOST_CRATES: [&str; 3] = ["--workspace", "--exclude", "scanguard-ebpf"];

/// Lines of failures that are said again at the end: enough for several, and the end of a long log is where one looks.
const FAILURE_LINES: usize = 200;

/// How long the output may go on after cargo has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `cargo xtask test`.
///
/// # Errors
/// When setup or the build fails, or a test does.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(ws, Purpose::Test)?;
    // `cargo test` builds the binaries of a package for that package's own tests only; ours run the agent.
    process::run(ws.cargo("build").args(HOST_CRATES).arg("--bins"))?;
    // Some of them install the package. That of Red Hat's kin is tried after `cargo xtask package --debug` alone: its tool
    // takes minutes to build.
    package::debian(ws, Profile::Dev, Target::HOST)?;

    let mut test = ws.cargo("test");
    test.args(HOST_CRATES).arg("--no-fail-fast").arg("--").args(&args.args);
    println!("$ {}", process::shown(&test));
    let mut child = test.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let reader = thread::spawn({
        let tally = Arc::clone(&tally);
        move || pass_through(BufReader::new(output), io::stdout(), &tally)
    });
    let status = child.wait().context("cannot wait for cargo")?;
    // The output ends with the last process that holds it, and a test may have left one behind.
    let deadline = Instant::now() + PATIENCE;
    while !reader.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    if !reader.is_finished() {
        println!("warning: a test left a process behind that holds its output");
    }

    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    if *tally != Tally::default() {
        print!("{}", tally.report(is_root()));
    }
    process::judge(&test, status)
}

/// Copies the tests' output line by line as it comes, and counts along.
fn pass_through(mut from: impl BufRead, mut to: impl Write, tally: &Mutex<Tally>) -> io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        tally.lock().unwrap_or_else(PoisonError::into_inner).read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

/// The results of all test binaries together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of ignored tests, with the reason if one was given.
    ignored_names: Vec<String>,
    /// The harness's lines about failed tests, to be printed again at the end.
    failures: Vec<String>,
    /// Whether the lines that come now tell of failures.
    in_failures: bool,
}

impl Tally {
    /// Reads one line in the format of Rust's own harness, which libtest-mimic writes as well.
    fn read(&mut self, line: &str) {
        let line = line.trim_end();
        let ended = line.starts_with("test result: ");
        self.in_failures = !ended && (self.in_failures || line == "failures:");
        if self.in_failures && self.failures.len() < FAILURE_LINES {
            self.failures.push(line.to_owned());
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count_of("passed", result);
            self.failed += count_of("failed", result);
            self.ignored += count_of("ignored", result);
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
            && let Some(reason) = outcome.strip_prefix("ignored")
        {
            self.ignored_names.push(format!("{}{reason}", name.trim()));
        }
    }

    fn report(&self, root: bool) -> String {
        let Self { passed, failed, ignored, ignored_names, failures, in_failures: _ } = self;
        let mut text = String::new();
        if !failures.is_empty() {
            text += &format!("\nagain, what failed:\n{}\n", failures.join("\n"));
        }
        if !ignored_names.is_empty() {
            let why = if root { "" } else { " (not root, which some tests need)" };
            text += &format!("\nskipped{why}:\n");
            for name in ignored_names {
                text += &format!("  {name}\n");
            }
        }
        text + &format!("\ntests: {passed} passed, {failed} failed, {ignored} skipped\n")
    }
}

/// The 3 before ` passed` in `ok. 3 passed; 0 failed`, 0 if there is none.
pub(crate) fn count_of(what: &str, result: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    let before = words.windows(2).find(|pair| pair[1] == what).map(|pair| pair[0]);
    before.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test parse::a_syn_is_a_syn ... ok
test netns::nmap_is_seen ... ignored
test slow   ... ignored, takes an hour
test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s

test other ... FAILED

failures:

---- other ----
nobody was found

failures:
    other

test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.10s
";

    fn tally() -> Tally {
        let tally = Mutex::default();
        pass_through(OUTPUT.as_bytes(), io::sink(), &tally).unwrap();
        tally.into_inner().unwrap()
    }

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let Tally { passed, failed, ignored, .. } = tally();
        assert_eq!((passed, failed, ignored), (5, 1, 2));
    }

    #[test]
    fn ignored_tests_are_named_with_their_reason() {
        assert_eq!(tally().ignored_names, ["netns::nmap_is_seen", "slow, takes an hour"]);
    }

    #[test]
    fn failures_are_printed_again_at_the_end() {
        assert!(tally().report(true).contains("---- other ----\nnobody was found\n"));
        assert!(!tally().report(true).contains("parse::"));
        assert!(!Tally::default().report(true).contains("failed:"));
    }

    #[test]
    fn the_report_ends_with_the_plain_counts() {
        assert!(tally().report(false).ends_with("\ntests: 5 passed, 1 failed, 2 skipped\n"));
        assert!(!Tally::default().report(true).contains("skipped:"));
    }

    #[test]
    fn output_passes_through_unchanged_even_if_it_is_not_text() {
        let mut copy = Vec::new();
        let bytes = b"\xff\xfe\ntest a ... ok\nno newline at the end";
        pass_through(&bytes[..], &mut copy, &Mutex::default()).unwrap();
        assert_eq!(copy, bytes);
    }
}
