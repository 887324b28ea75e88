//! Starts the agent as its unit has it started, where no systemd runs: same command line, same capabilities.

use std::{fs, os::unix::net::UnixDatagram, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use scanguard_tests::lab::{Process, wait_for};

use crate::machine::Machine;

/// Where the unit is installed.
pub(crate) const UNIT: &str = "/usr/lib/systemd/system/scanguard.service";
/// Where the agent says how it goes.
const NOTIFY: &str = "/run/notify";
/// The watchdog is meant for one process, as systemd says it.
const WITH_ITS_PID: &str = "WATCHDOG_PID=$$ exec \"$@\"";
const PATIENCE: Duration = Duration::from_secs(30);

/// The running service.
pub(crate) struct Service {
    /// The agent.
    pub(crate) process: Process,
    socket: UnixDatagram,
    heard: Vec<String>,
    findings: PathBuf,
    log: PathBuf,
}

impl Service {
    /// Starts it.
    pub(crate) fn start(machine: &Machine<'_>) -> Result<Self> {
        let unit = fs::read_to_string(machine.path(UNIT))?;
        let setting = |name: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.with_context(|| format!("{name} in {UNIT}"))
        };
        let capabilities: Vec<_> = setting("CapabilityBoundingSet")?
            .split(' ')
            .map(|name| name.trim_start_matches("CAP_").to_lowercase())
            .collect();
        let bounded = format!("--bounding-set=-all,+{}", capabilities.join(",+"));

        let socket = UnixDatagram::bind(machine.path(NOTIFY))?;
        socket.set_nonblocking(true)?;
        let (findings, log) = (machine.path("/tmp/findings"), machine.path("/tmp/log"));
        let mut command = machine.command("setpriv");
        command.args([&bounded, "--inh-caps=-all", "--no-new-privs", "--"]);
        command.args(["sh", "-c", WITH_ITS_PID, "sh"]).args(setting("ExecStart")?.split(' '));
        command.env("NOTIFY_SOCKET", NOTIFY).env("WATCHDOG_USEC", "3000000");
        command.stdin(Stdio::null()).stdout(fs::File::create(&findings)?).stderr(fs::File::create(&log)?);
        let process = Process::new(command.spawn()?);
        Ok(Self { process, socket, heard: Vec::new(), findings, log })
    }

    /// Waits until it has said all of this, in this order, since the last time; the last message whole.
    pub(crate) fn says(&mut self, words: &[&str]) -> Result<String> {
        let mut words = words.iter();
        let mut wanted = words.next();
        let mut last = String::new();
        let all = wait_for("the agent says how it goes", PATIENCE, || {
            let mut message = [0; 512];
            while let Ok(length) = self.socket.recv(&mut message) {
                let said = String::from_utf8_lossy(&message[..length]).into_owned();
                self.heard.push(said.clone());
                if wanted.is_some_and(|wanted| said.lines().any(|line| line == *wanted)) {
                    last = said;
                    wanted = words.next();
                }
                if wanted.is_none() {
                    return Some(());
                }
            }
            None
        });
        all.with_context(|| format!("{wanted:?} after {:?}; log: {}", self.heard, self.log()))?;
        Ok(last)
    }

    /// Waits for a finding of a rule.
    pub(crate) fn finds(&self, rule: &str) -> Result<()> {
        let found = wait_for(rule, PATIENCE, || {
            let lines = fs::read_to_string(&self.findings).ok()?;
            let findings =
                lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            findings.into_iter().any(|finding| finding["rule"] == rule).then_some(())
        });
        found.with_context(|| self.log())
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
