//! Running other programs: their output passes through, and their exit code becomes ours.

use std::{
    error::Error,
    fmt, iter,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How often something that downloads is tried.
const TRIES: u32 = 3;

/// The wait after the first failed try; each further wait is three times as long.
const FIRST_WAIT: Duration = Duration::from_secs(3);

/// A program that ran and failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The program and its first argument: the whole command was shown when it started.
    command: String,
    status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.command, self.status)
    }
}

impl Error for Failed {}

/// The exit code to end with after `error`: that of the program that failed, 1 if it was none.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let Some(Failed { status, .. }) = error.downcast_ref() else { return 1 };
    // A shell reports death by signal N as 128 + N.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The command as one would type it, with the variables that are set for it alone.
pub(crate) fn shown(command: &Command) -> String {
    // PATH is longer than all the rest, and the same for all.
    let variables = command.get_envs().filter(|(name, _)| *name != "PATH").filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.display(), quoted(&value.to_string_lossy())))
    });
    let words = iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// The word in single quotes if a shell would take it for anything but itself.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Says what is run, runs it to its end, and takes anything but success for an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    judge(command, status)
}

/// Like [`run`], but tries again after a growing wait: for commands that download.
pub(crate) fn run_with_retries(command: &mut Command) -> Result<()> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..TRIES {
        match run(command) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("{error:#} (try {attempt} of {TRIES}); again in {} s", wait.as_secs()),
        }
        thread::sleep(wait);
        wait *= 3;
    }
    run(command)
}

/// Runs quietly and gives what the command wrote to its standard output, or nothing if it failed.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if output.status.success() { String::from_utf8(output.stdout).ok() } else { None }
}

/// Becomes the command: signals and the exit code are then its own affair. Comes back only with an error.
pub(crate) fn replace_this_process(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", shown(command)))
}

/// Success, or the error that carries the exit code on.
pub(crate) fn judge(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let words = iter::once(command.get_program()).chain(command.get_args().take(1));
    let command = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(Failed { command, status }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(raw_status: i32) -> anyhow::Error {
        let status = ExitStatus::from_raw(raw_status);
        anyhow::Error::new(Failed { command: "x".into(), status }).context("while testing")
    }

    #[test]
    fn the_exit_code_of_a_failed_program_is_passed_on() {
        assert_eq!(exit_code(&failure(101 << 8)), 101);
    }

    #[test]
    fn death_by_signal_is_reported_as_a_shell_would() {
        assert_eq!(exit_code(&failure(9)), 128 + 9);
    }

    #[test]
    fn any_other_error_ends_with_one() {
        assert_eq!(exit_code(&anyhow::anyhow!("no such file")), 1);
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.args(["clippy", "--", "-D", "all warnings"]);
        command.env("PATH", "/bin").env("FLAGS", "--cfg=a=\"b\"").env_remove("HOME");
        assert_eq!(shown(&command), "FLAGS='--cfg=a=\"b\"' cargo clippy -- -D 'all warnings'");
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_would_change_them() {
        assert_eq!(quoted("--ports=1,2"), "--ports=1,2");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn an_answer_is_given_only_by_a_program_that_succeeds() {
        assert_eq!(answer(Command::new("echo").arg("hello")).as_deref(), Some("hello\n"));
        assert_eq!(answer(&mut Command::new("false")), None);
        assert_eq!(answer(&mut Command::new("/nonexistent/program")), None);
    }
}
