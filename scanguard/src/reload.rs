//! `scanguard reload`: has a running agent read its configuration again.

use anyhow::{Context as _, Result, bail};

/// Sends SIGHUP to the agent: the one named, or the only one that runs.
///
/// # Errors
/// There is none, there are several, or it may not be sent.
pub fn run(pid: Option<u32>) -> Result<()> {
    let pid = match pid {
        Some(pid) if agents().contains(&pid) => pid,
        Some(pid) => bail!("process {pid} is no `scanguard run`"),
        None => match agents().as_slice() {
            [] => bail!("no `scanguard run` is running here"),
            [one] => *one,
            several => {
                let pids: Vec<_> = several.iter().map(ToString::to_string).collect();
                bail!("several agents are running: choose one with --pid: {}", pids.join(", "))
            }
        },
    };
    let target = i32::try_from(pid).context("the process id")?;
    // SAFETY: no memory; the process was looked at a moment ago.
    if unsafe { libc::kill(target, libc::SIGHUP) } != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("SIGHUP to process {pid}"));
    }
    println!(
        "SIGHUP sent to process {pid}; its log and scanguard_config_last_reload_successful say the outcome"
    );
    Ok(())
}

/// Processes whose command is `scanguard ... run ...`.
fn agents() -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_agent(*pid))
        .collect()
}

fn is_agent(pid: u32) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let arguments = read("cmdline");
    read("comm").strip_suffix(b"\n") == Some(b"scanguard")
        && arguments.split(|byte| *byte == 0).any(|word| word == b"run")
}
