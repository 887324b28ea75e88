//! Whose is the XDP program that is already attached to an interface?

use std::fmt;

use aya::programs::loaded_programs;
use scanguard_common::abi;

/// A program that somebody else attached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Program id, as `bpftool prog show id N` takes it.
    pub program_id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Processes that hold it: id and name. None when it is kept by a pin or by the interface alone.
    pub holders: Vec<(u32, String)>,
}

impl Owner {
    /// Finds out what can be known of a program by its id.
    pub fn of(program_id: u32) -> Self {
        let name = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == program_id)
            .and_then(|program| program.name_as_str().map(str::to_owned))
            .filter(|name| !name.is_empty());
        Self { program_id, name, holders: holders(program_id) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("without a name");
        write!(f, "program {name} (id {}), ", self.program_id)?;
        if self.holders.is_empty() {
            f.write_str("held by no process that can be seen")?;
            if self.name.as_deref() == Some(abi::PROGRAM) {
                f.write_str(" (what an agent left pinned, `scanguard detach --pin DIRECTORY` ends)")?;
            }
            return Ok(());
        }
        f.write_str("held by ")?;
        for (place, (pid, command)) in self.holders.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{command} (pid {pid})")?;
        }
        Ok(())
    }
}

/// The kernel tells the program id of each open descriptor of a program or link in
/// /proc/PID/fdinfo/FD. Processes that may not be read are passed over.
fn holders(program_id: u32) -> Vec<(u32, String)> {
    let wanted = format!("prog_id:\t{program_id}");
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read_dir(format!("/proc/{pid}/fdinfo")).is_ok_and(|descriptors| {
                descriptors
                    .filter_map(Result::ok)
                    .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                    .any(|info| info.lines().any(|line| line == wanted))
            })
        })
        .map(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, command.trim().to_owned())
        })
        .collect()
}
