//! A real sshd: a login spares, an attempt does not.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    clients::at,
    lab::{Lab, PATIENCE, Process, SCANNER, SCANNER_INTERFACE, VICTIM, wait_for},
    scenario::Scenario,
    sshd,
};

use crate::trial;

/// Where somebody logs in from, on the host that scans.
const OPERATOR: &str = "10.77.0.3";
pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "ssh: a client that has logged in when the agent starts is spared, one that has only connected is not",
        started,
    )]
}

/// An open connection to the server, which has said who it is.
fn connect(lab: &Lab) -> Result<TcpStream> {
    wait_for("sshd", PATIENCE, || {
        lab.scanner
            .enter(|| {
                let mut connection = TcpStream::connect(at(VICTIM, 22))?;
                let mut banner = [0; 8];
                connection.read_exact(&mut banner)?;
                ensure!(&banner == b"SSH-2.0-");
                Ok(connection)
            })
            .ok()
    })
}

/// Somebody who has logged in, and stays as long as its guard.
fn log_in(lab: &Lab, directory: &Path) -> Result<Process> {
    lab.scanner.ip(&format!("addr add {OPERATOR}/24 dev {SCANNER_INTERFACE}"))?;
    let mut command = lab.scanner.command("ssh");
    command
        .args(["-F", "none", "-i", "user", "-b", OPERATOR, "-o", "BatchMode=yes"])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .args([&format!("root@{VICTIM}"), "cat"])
        .current_dir(directory);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("ssh")?;
    let mut session = Process::new(child);
    session.child.stdin.as_mut().context("stdin")?.write_all(b"here\n")?;
    let mut line = String::new();
    BufReader::new(session.child.stdout.as_mut().context("stdout")?).read_line(&mut line)?;
    ensure!(line == "here\n", "not logged in: {}", fs::read_to_string(directory.join("log"))?);
    Ok(session)
}

fn started() -> Result<()> {
    let scenario = Scenario::new("[response]\nmode = \"enforce\"\n")?;
    let directory = scenario.lab.victim.directory();
    let _sshd = sshd::start(&scenario.lab.victim, directory)?;
    let _attempt = connect(&scenario.lab)?;
    let _session = log_in(&scenario.lab, directory)?;
    scenario.run(|_, agent| {
        let explained = agent.order(&["explain", OPERATOR])?;
        ensure!(explained.contains("never will be") && explained.contains("SSH"), "{explained}");
        let (done, said) = agent.ask(&["ban", OPERATOR])?;
        ensure!(!done && said.contains("SSH"), "{said}");
        let explained = agent.order(&["explain", SCANNER])?;
        ensure!(
            !explained.contains("never will be"),
            "spared for a connection by which nobody logged in: {explained}"
        );
        agent.order(&["ban", SCANNER]).map(drop)
    })
}
