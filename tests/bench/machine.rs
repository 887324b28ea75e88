//! On which machine, and what its processors did.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Properties of the machine that the figures depend on. There are no names, neither of the host nor of anybody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// Model of the processors.
    pub(crate) cpu: String,
    /// How many.
    pub(crate) cores: usize,
    /// Gibibytes.
    pub(crate) memory_gib: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// The hypervisor's name, or that there is none.
    pub(crate) virtualization: String,
}

impl Machine {
    /// Asks the kernel and lscpu.
    ///
    /// # Errors
    /// /proc is not there.
    pub(crate) fn this() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let is_guest = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        Ok(Self {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (memory("MemTotal")? + (1 << 29)) >> 30,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            virtualization: match (hypervisor(), is_guest) {
                (Some(vendor), _) => format!("virtual machine ({vendor})"),
                (None, true) => "virtual machine".to_owned(),
                (None, false) => "none".to_owned(),
            },
        })
    }
}

fn hypervisor() -> Option<String> {
    let output = Command::new("lscpu").env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("Hypervisor vendor:"))?;
    line.split_once(':').map(|(_, vendor)| vendor.trim().to_owned())
}

/// A line of /proc/meminfo, in bytes.
///
/// # Errors
/// There is none.
pub(crate) fn memory(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    kibibytes(&text, name).with_context(|| format!("/proc/meminfo: no {name}"))
}

/// The bytes of `NAME: 12 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|number| number << 10)
}

/// Seconds of all processors together since the machine was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors {
    /// At work.
    pub(crate) busy: f64,
    /// With nothing to do.
    pub(crate) idle: f64,
}

/// Asks the kernel.
///
/// # Errors
/// /proc/stat is not there, or is another.
pub(crate) fn processors() -> Result<Processors> {
    let text = fs::read_to_string("/proc/stat")?;
    // user nice system idle iowait irq softirq steal; see proc_stat(5).
    let line = text.lines().next().context("a line")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    let [user, nice, system, idle, iowait, irq, softirq, ..] = ticks[..] else {
        anyhow::bail!("/proc/stat has another form");
    };
    let seconds = |ticks: f64| ticks / ticks_per_second();
    Ok(Processors { busy: seconds(user + nice + system + irq + softirq), idle: seconds(idle + iowait) })
}

/// CPU time that a process used, and memory that it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time since it was started.
    pub(crate) seconds: f64,
    /// Resident bytes.
    pub(crate) resident: u64,
}

/// Asks for a process.
///
/// # Errors
/// It is gone.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces; utime and stime are fields 14 and 15, see proc_pid_stat(5).
    let (_, rest) = stat.rsplit_once(')').context("a name")?;
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        seconds: ticks.iter().sum::<f64>() / ticks_per_second(),
        resident: kibibytes(&status, "VmRSS").context("VmRSS")?,
    })
}

/// The memory of a process in bytes, with its part of what it shares with others (PSS).
///
/// # Errors
/// It is gone.
pub(crate) fn proportional(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kibibytes(&rollup, "Pss").context("Pss")
}

/// The processes, or threads of the kernel, whose name begins so.
pub(crate) fn named(name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|own| own.starts_with(name));
    processes.filter(is_it).collect()
}

fn ticks_per_second() -> f64 {
    // SAFETY: no memory.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks as f64
}

/// CPU nanoseconds of this thread.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn thread_nanoseconds() -> Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    anyhow::ensure!(result == 0, "clock_gettime: {}", std::io::Error::last_os_error());
    Ok(time.tv_sec as f64 * 1e9 + time.tv_nsec as f64)
}
