//! What the server and the role take from this machine.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use crate::fixtures::lab::{Namespace, Process, run};

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Of all CPUs.
    pub cpu: Duration,
    /// Resident memory in KiB.
    pub memory: u64,
}

impl Taken {
    /// Of this process.
    ///
    /// # Errors
    /// It has ended.
    pub fn by(process: &Process) -> Result<Self> {
        let pid = process.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may have spaces; user and system time are the twelfth and thirteenth field after it.
        let (_, fields) = stat.rsplit_once(") ").context("the name")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1_000 / hertz()),
            memory: memory.trim().trim_end_matches(" kB").parse()?,
        })
    }
}

fn hertz() -> u64 {
    // SAFETY: no memory.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(hertz).unwrap_or(100).max(1)
}

/// Bytes of TCP that this process has sent to a port and received from it, over all its connections.
///
/// # Errors
/// `ss` could not say.
pub fn bytes(namespace: &Namespace, port: u16) -> Result<(u64, u64)> {
    let mut command = namespace.command("ss");
    let output = run(command
        .args(["--tcp", "--info", "--numeric", "--processes", "--no-header", "--oneline"])
        .args(["state", "established", "dport", "=", &format!(":{port}")]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let own = format!("pid={},", std::process::id());
    let (mut sent, mut received) = (0, 0);
    for line in text.lines().filter(|line| line.contains(&own)) {
        let number = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        };
        sent += number("bytes_sent:");
        received += number("bytes_received:");
    }
    Ok((sent, received))
}
